"""A request plane for Reqplane over ZeroMQ, chosen by DYN_REQUEST_PLANE=zmq."""

from reqplane import hookimpl

from reqplane_zmq.transport import ZmqTransport


@hookimpl
def reqplane_request_transports() -> list[type[ZmqTransport]]:
    return [ZmqTransport]


__all__ = ["ZmqTransport"]
