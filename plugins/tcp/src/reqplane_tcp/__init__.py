"""Reqplane's tcp request plane: a request is a message on a connection that is kept, its ack four zeros."""

from reqplane_tcp.transport import TcpTransport

__all__ = ["TcpTransport"]
