"""Tells the author of a Reqplane transport or discovery backend whether it is right.

    pytest --pyargs reqplane_conformance --transport yours

or, where it needs a server or some variables, in its own tests:

    from reqplane_conformance import RequestTransportConformance
    from reqplane_yours import YourTransport

    class TestYours(RequestTransportConformance):
        transport = YourTransport

    case        what a case is            verdict     how it says what is wrong
    suite       what all classes share    stage       what a case acts on     host   it opens on this
    running     one case, guarded         leftovers   tasks, sockets, threads
    plugin      pytest's hooks            options     the command line      report    table, level, JSON
    strain      hard times                unwritten   what is missing, told first
    memory      reference transports, doubles for unit tests
    request     its cases                 response    its cases             discovery  its cases
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reqplane_conformance.discovery.suite import DiscoveryConformance
    from reqplane_conformance.host import SuiteHost
    from reqplane_conformance.request.suite import RequestTransportConformance
    from reqplane_conformance.response.suite import ResponseTransportConformance

__all__ = ["RequestTransportConformance", "ResponseTransportConformance", "DiscoveryConformance", "SuiteHost"]

_PLACES = {
    "RequestTransportConformance": "reqplane_conformance.request.suite",
    "ResponseTransportConformance": "reqplane_conformance.response.suite",
    "DiscoveryConformance": "reqplane_conformance.discovery.suite",
    "SuiteHost": "reqplane_conformance.host",
}


def __getattr__(name: str) -> Any:
    """The classes, imported when they are asked for: pytest loads this package in every run."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
