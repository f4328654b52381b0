"""A request plane for Reqplane, chosen by DYN_REQUEST_PLANE=yours."""

from reqplane import hookimpl

from reqplane_yours.transport import YoursTransport


@hookimpl
def reqplane_request_transports() -> list[type[YoursTransport]]:
    return [YoursTransport]


__all__ = ["YoursTransport"]
