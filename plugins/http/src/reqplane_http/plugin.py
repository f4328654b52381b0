"""What the entry point `http` of the group `reqplane.transports` names."""

from __future__ import annotations

from reqplane.hookspecs import hookimpl

from reqplane_http.transport import HttpTransport


@hookimpl
def reqplane_request_transports() -> list[type[HttpTransport]]:
    return [HttpTransport]
