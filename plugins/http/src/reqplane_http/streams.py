"""What ASGI has no words for: resetting a stream.

It is asked of hypercorn's own objects.  The `send` that an application gets is a method of hypercorn's
stream, and that stream's `send` is a method of the connection's protocol, which has an h2 connection.
Should a later hypercorn be built in another way, nothing is found here: a stream then ends with a 500
instead of a reset.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from h2.exceptions import ProtocolError

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
        with suppress(ProtocolError):  # the connection may be at its end
            protocol.connection.reset_stream(stream.stream_id, _ENHANCE_YOUR_CALM)
            await protocol._flush()
