"""Tells the author of a Reqplane transport or discovery backend whether it is right.

    pytest --pyargs reqplane_conformance --transport yours

or, where it needs a server or some variables, in its own tests:

    from reqplane_conformance import RequestTransportConformance
    from reqplane_yours import YourTransport

    class TestYours(RequestTransportConformance):
        transport = YourTransport

    case        what a case is            verdict     how it says what is wrong
    suite       what all classes share    stage       what a case acts on
    running     one case, guarded         leftovers   tasks, sockets, threads
    plugin      pytest's hooks            options     the command line      report    table, level, JSON
    strain      hard times                unwritten   what is missing, told first
    memory      reference transports, doubles for unit tests
    request     its cases                 response    its cases             discovery  its cases
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reqplane_conformance.discovery import DiscoveryConformance
    from reqplane_conformance.request import RequestTransportConformance
    from reqplane_conformance.response import ResponseTransportConformance
    from reqplane_conformance.stage import SuiteHost

__all__ = ["RequestTransportConformance", "ResponseTransportConformance", "DiscoveryConformance", "SuiteHost"]

_PLACES = {
    "RequestTransportConformance": "reqplane_conformance.request",
    "ResponseTransportConformance": "reqplane_conformance.response",
    "DiscoveryConformance": "reqplane_conformance.discovery",
    "SuiteHost": "reqplane_conformance.stage",
}


def __getattr__(name: str) -> Any:
    """The classes, imported when they are asked for: pytest loads this package in every run."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
