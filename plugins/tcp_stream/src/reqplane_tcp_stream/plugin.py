"""What the core finds under the entry point `tcp_stream`."""

from __future__ import annotations

from reqplane.hookspecs import hookimpl

from reqplane_tcp_stream.transport import TcpStreamTransport


@hookimpl
def reqplane_response_transports() -> list[type[TcpStreamTransport]]:
    return [TcpStreamTransport]
