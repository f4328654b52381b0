"""How an answer is written: NDJSON, or server-sent events for those who accept them.

    NDJSON       one item a line; a failure is a last line {"error": {…}}
    events       data: item; a failure is an event "error", the end of a whole answer an event "end"

Over HTTP/1.1 an answer that failed is cut off after that, so that no program takes it for a whole one.
What JSON has not: bytes become {"$bytes": base64}; NaN, and keys that are no text, are errors.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from reqplane.errors import PayloadError, ReqplaneError


def item_json(item: Any, index: int) -> str:
    """An item as JSON; PayloadError if it can't be written as that."""
    try:
        return json.dumps(item, ensure_ascii=False, allow_nan=False, default=_extra, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"JSON has no such value: {error}", index=index) from error


def _extra(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(value).decode()}
    raise TypeError(f"a {type(value).__name__}")


def error_members(error: BaseException, request_id: str | None = None) -> dict[str, Any]:
    """What is told of an error.  Of one that is none of ours only that it happened: its text may tell what
    is nobody's business, and stands in the log."""
    ours = isinstance(error, ReqplaneError)
    members: dict[str, Any] = {
        "type": type(error).__name__ if ours else "InternalError",
        "message": str(error) if ours else "the front failed; its log says why",
    }
    request_id = request_id or getattr(error, "request_id", None)
    return members if request_id is None else {**members, "request_id": request_id}


class Ndjson:
    """One item a line."""

    content_type = b"application/x-ndjson"

    def item(self, text: str) -> bytes:
        return f"{text}\n".encode(errors="surrogatepass")

    def end(self, items: int) -> bytes:
        return b""

    def error(self, members: dict[str, Any]) -> bytes:
        return f"{json.dumps({'error': members})}\n".encode()


class Events:
    """Server-sent events."""

    content_type = b"text/event-stream; charset=utf-8"

    def item(self, text: str) -> bytes:
        return f"data: {text}\n\n".encode(errors="surrogatepass")

    def end(self, items: int) -> bytes:
        return f'event: end\ndata: {{"items": {items}}}\n\n'.encode()

    def error(self, members: dict[str, Any]) -> bytes:
        return f"event: error\ndata: {json.dumps(members)}\n\n".encode()


Form = Ndjson | Events


def form_for(accept: str) -> Form:
    """What the header `accept` asks for."""
    return Events() if "text/event-stream" in accept.lower() else Ndjson()
