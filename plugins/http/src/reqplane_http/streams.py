"""What ASGI has no words for: resetting a stream, saying GOAWAY, bounding what a connection remembers.

All of it is asked of hypercorn's own objects.  The `send` that an application gets is a method of hypercorn's
stream, and that stream's `send` is a method of the connection's protocol, which has an h2 connection.
Should a later hypercorn be built in another way, nothing is found here: a stream then ends with a 500
instead of a reset, the server closes without GOAWAY, and connections keep hypercorn's bounds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from h2.exceptions import ProtocolError
from h2.utilities import SizeLimitDict

Send = Callable[[Any], Awaitable[None]]

_ENHANCE_YOUR_CALM = 11  # RFC 9113 §7
_CLOSED_STREAMS = 1000  # h2 remembers 65 536: up to 19 MiB a connection
_TREE_STREAMS = 100_000
"""hypercorn's priority tree has room for 1000 streams, and the connection dies when it is full.  Streams that
were reset stay in it until its sending task runs, so when a worker was frozen for a moment and its
frontends have given up all their requests, those and the new ones are in it together."""


def _protocol_of(send: Send) -> Any:
    """The HTTP/2 protocol that a `send` belongs to, or None."""
    stream: Any = getattr(send, "__self__", None)
    protocol: Any = getattr(getattr(stream, "send", None), "__self__", None)
    return protocol if hasattr(getattr(protocol, "connection", None), "reset_stream") else None


async def reset_stream(send: Send) -> None:
    """Reset the HTTP/2 stream that `send` belongs to; what still comes for it is ignored."""
    protocol = _protocol_of(send)
    if protocol is not None:
        stream: Any = getattr(send, "__self__", None)
        with suppress(ProtocolError):  # the connection may be at its end
            protocol.connection.reset_stream(stream.stream_id, _ENHANCE_YOUR_CALM)
            await protocol._flush()


class Http2Connections:
    """The HTTP/2 connections that have carried a request and are still open."""

    def __init__(self) -> None:
        self._protocols: WeakSet[Any] = WeakSet()

    def note(self, send: Send) -> None:
        """Remember the connection of this request, and set its bounds when it is new."""
        protocol = _protocol_of(send)
        if protocol is not None and protocol not in self._protocols:
            self._protocols.add(protocol)
            _set_bounds(protocol)

    async def go_away(self) -> None:
        """Tell every peer that nothing it has no answer to was looked at, or ever will be.

        All answers are on the wire before, so the last stream can be 0, and the senders of all other
        requests know that they may send them elsewhere.
        """
        for protocol in list(self._protocols):
            with suppress(ProtocolError):
                protocol.connection.close_connection(last_stream_id=0)
                await protocol._flush()


def _set_bounds(protocol: Any) -> None:
    if hasattr(protocol.connection, "_closed_streams"):
        protocol.connection._closed_streams = SizeLimitDict(size_limit=_CLOSED_STREAMS)
    if hasattr(getattr(protocol, "priority", None), "_maximum_streams"):
        protocol.priority._maximum_streams = _TREE_STREAMS
