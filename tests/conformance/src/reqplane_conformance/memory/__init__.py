"""Reference transports that need no network: the suite's yardstick, and doubles for users' unit tests.

Runtimes of one event loop reach each other by them, where both are made with

    env = {"DYN_REQUEST_PLANE": "memory", "DYN_DISCOVERY_BACKEND": "mem"}

and a test can let things go wrong:

    from reqplane_conformance.memory import network

    network().fail_next(CannotConnect("no route", address="10.0.0.7:8081"))  # for the next send
    network().delay = 0.05  # seconds, each way
    (address,) = network().addresses
    network().freeze(address)  # it accepts nothing, and is not gone
    network().vanish(address)  # as by kill -9
"""

from __future__ import annotations

from reqplane.hookspecs import hookimpl

from reqplane_conformance.memory.network import Network, network
from reqplane_conformance.memory.requests import MemoryTransport

__all__ = ["MemoryTransport", "Network", "network"]


@hookimpl
def reqplane_request_transports() -> list[type[MemoryTransport]]:
    return [MemoryTransport]
