"""What ASGI has no words for: ending an answer that is not whole.

Over HTTP/1.1 an application that returns with its answer unfinished has the connection closed, without the
last chunk, so every client sees that something is missing.  Over HTTP/2 hypercorn would leave the stream
open for ever; it is reset, by way of hypercorn's own objects.  Should a later hypercorn be built in another
way, the stream is ended instead, after the error that was written.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from reqplane.front.incoming import Scope, Send

_INTERNAL_ERROR = 2  # RFC 9113 §7


async def end_broken(scope: Scope, send: Send) -> None:
    """End an answer so that it does not look whole."""
    if scope["http_version"] != "2":
        return
    stream: Any = getattr(send, "__self__", None)
    protocol: Any = getattr(getattr(stream, "send", None), "__self__", None)
    if not hasattr(getattr(protocol, "connection", None), "reset_stream"):
        await send({"type": "http.response.body", "body": b""})
        return
    with suppress(Exception):  # the connection may be at its end
        protocol.connection.reset_stream(stream.stream_id, _INTERNAL_ERROR)
        await protocol._flush()
