"""How an answer is written: NDJSON, or server-sent events for those who accept them.

    NDJSON       one item a line; a failure is a last line {"error": {…}}
    events       data: item; a failure is an event "error", the end of a whole answer an event "end"

An answer that failed is cut off after that (exchange.py), so that no program takes it for a whole one.
What JSON has not: bytes become {"$bytes": base64}; NaN and the like are errors.  Keys become text.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from reqplane.codecs import JsonCodec
from reqplane.errors import PayloadError

_codec = JsonCodec()


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write an answer."""

    content_type: bytes
    before: bytes
    after: bytes
    ends_itself: bool
    """Whether a reader can tell a whole answer from a cut one without the help of HTTP."""

    def item(self, value: Any, index: int) -> bytes:
        """One item; PayloadError if it can't be written as JSON."""
        return self.before + item_json(value, index) + self.after

    def end(self, items: int) -> bytes:
        """What says that the answer is whole."""
        return b'event: end\ndata: {"items": %d}\n\n' % items if self.ends_itself else b""

    def error(self, members: dict[str, Any]) -> bytes:
        """What is said of a failure behind items."""
        if self.ends_itself:
            return b"event: error\ndata: %s\n\n" % json.dumps(members).encode()
        return json.dumps({"error": members}).encode() + b"\n"


NDJSON = Form(b"application/x-ndjson", b"", b"\n", ends_itself=False)
EVENTS = Form(b"text/event-stream; charset=utf-8", b"data: ", b"\n\n", ends_itself=True)


def form_for(accept: str) -> Form:
    """What the header `accept` asks for: events for who names them, lines for everybody else."""
    events = _weight(accept, "text/event-stream")
    return EVENTS if events and events >= _weight(accept, "application/x-ndjson") else NDJSON


def _weight(accept: str, wanted: str) -> float:
    """How much somebody likes a content type, from 0 to 1."""
    for part in accept.lower().split(","):
        name, *parameters = [one.strip() for one in part.split(";")]
        if name == wanted:
            weights = [one.removeprefix("q=") for one in parameters if one.startswith("q=")]
            try:
                return float(weights[0]) if weights else 1.0
            except ValueError:
                return 0.0
    return 0.0


# ── items ───────────────────────────────────────────────────────────────────────────────────────────


def item_json(value: Any, index: int) -> bytes:
    """An item as JSON in UTF-8; PayloadError if it can't be written as that."""
    try:
        return _codec.encode(value)
    except PayloadError:
        pass
    try:
        return _with_bytes(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"JSON has no such value: {error}", index=index) from error


def _extra(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(value).decode()}
    raise TypeError(f"a {type(value).__name__}")


# In ASCII, since UTF-8 has no half characters, but JSON can escape them.
_with_bytes = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_extra).encode
