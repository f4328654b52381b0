"""What ASGI has no words for: resetting a stream, and saying GOAWAY.

Both are asked of hypercorn's own objects.  The `send` that an application gets is a method of hypercorn's
stream, and that stream's `send` is a method of the connection's protocol, which has an h2 connection.
Should a later hypercorn be built in another way, nothing is found here: a stream then ends with a 500
instead of a reset, and the server closes without GOAWAY.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakSet

Send = Callable[[Any], Awaitable[None]]

_ENHANCE_YOUR_CALM = 11  # RFC 9113 §7


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
        protocol.connection.reset_stream(stream.stream_id, _ENHANCE_YOUR_CALM)
        await protocol._flush()


class Http2Connections:
    """The HTTP/2 connections that have carried a request and are still open."""

    def __init__(self) -> None:
        self._protocols: WeakSet[Any] = WeakSet()

    def note(self, send: Send) -> None:
        protocol = _protocol_of(send)
        if protocol is not None:
            self._protocols.add(protocol)

    async def go_away(self) -> None:
        """Tell every peer that nothing it sends from now on will be looked at.

        Requests that cross with this surely did not run, and their senders know it.  hypercorn itself
        answers them by a reset while it shuts down, and falls over the DATA that follows.
        """
        for protocol in list(self._protocols):
            protocol.connection.close_connection()
            await protocol._flush()
