"""What the entry point `nats` of the group `reqplane.transports` names."""

from __future__ import annotations

from reqplane.hookspecs import hookimpl

from reqplane_nats.transport import NatsTransport


@hookimpl
def reqplane_request_transports() -> list[type[NatsTransport]]:
    return [NatsTransport]
