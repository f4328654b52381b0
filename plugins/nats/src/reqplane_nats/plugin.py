"""What the entry point `nats` of the group `reqplane.transports` names."""

from __future__ import annotations

from typing import Any

from reqplane.hookspecs import hookimpl
from reqplane.interfaces import RequestTransport


@hookimpl
def reqplane_request_transports() -> list[type[RequestTransport[Any]]]:
    return []
