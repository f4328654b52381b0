"""What the entry point `tcp` of the group `reqplane.transports` names."""

from __future__ import annotations

from reqplane.hookspecs import hookimpl

from reqplane_tcp.transport import TcpTransport


@hookimpl
def reqplane_request_transports() -> list[type[TcpTransport]]:
    return [TcpTransport]
