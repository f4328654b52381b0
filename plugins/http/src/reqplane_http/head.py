"""A request's headers: what travels on with the frame, and whether the request is refused for them."""

from __future__ import annotations

from collections.abc import Iterable

from reqplane.wire.trace import carried

from reqplane_http import batch
from reqplane_http.answers import CARRIED
from reqplane_http.responses import Response, text

MOST_HEAD_BYTES = 16 * 1024
"""All headers together; on HTTP/1.1 the request line too."""

_FIELD_BYTES = 32  # what RFC 9113 §6.5.2 counts for a field beside its name and value
_CARRIED = {name.encode(): name for name in CARRIED}
_BATCH = batch.CONTENT_TYPE.encode()


class Head:
    """The headers of one request.  `problem`: the answer, if it is refused for them."""

    __slots__ = ("carried", "is_batch", "problem")

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        found: dict[str, str] = {}
        self.is_batch = False
        self.problem: Response | None = None
        size = lengths = 0
        for name, value in raw:
            size += len(name) + len(value) + _FIELD_BYTES
            if name in _CARRIED:
                _add(found, _CARRIED[name], value.decode("latin-1"))
            elif name == b"content-type":
                self.is_batch = value == _BATCH
            elif name == b"content-length":
                lengths += 1
            elif name == b"content-encoding":
                self.problem = _ENCODED
        if size > MOST_HEAD_BYTES:
            self.problem = _TOO_LARGE
        elif lengths > 1:
            self.problem = _TWO_LENGTHS
        self.carried = carried(found) if found else found


def _add(found: dict[str, str], name: str, value: str) -> None:
    """A header that comes twice is joined, as RFC 9110 has it."""
    found[name] = f"{found[name]},{value}" if name in found else value


_ENCODED = text(415, "frames are not compressed: Content-Encoding must be absent")
_TOO_LARGE = text(431, f"the request's headers have more than {MOST_HEAD_BYTES} bytes, remove some")
_TWO_LENGTHS = text(400, "a request has one Content-Length")
