"""Several frames in one POST: how they are written, read and answered.

    content-type: application/vnd.reqplane.batch
    body, for each frame:  u32 big-endian, that many bytes of headers (a JSON object), the frame
    answer: 200, a JSON list in the same order: null = accepted, {"code", "text"} = refused

A frame delimits itself; each keeps headers of its own, since each belongs to another request.  At most
MOST_FRAMES frames and MOST_BYTES bytes go into one POST.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

from reqplane.errors import WireError
from reqplane.model import Headers
from reqplane.wire.frame import PREFIX, PREFIX_BYTES, Frame
from reqplane.wire.trace import carried

CONTENT_TYPE = "application/vnd.reqplane.batch"
MOST_FRAMES = 64
MOST_BYTES = 256 * 1024

Refusal: TypeAlias = tuple[str, str]
"""A refused frame's code and text."""

_LENGTH = struct.Struct(">I")
_NO_HEADERS = _LENGTH.pack(2) + b"{}"
_MOST_HEADER_BYTES = 16 * 1024


def pack(frame: Frame, headers: Headers) -> list[Any]:
    """One frame's pieces of the body."""
    if not headers:
        return [_NO_HEADERS, *frame.buffers]
    members = json.dumps(dict(headers), separators=(",", ":")).encode()
    return [_LENGTH.pack(len(members)), members, *frame.buffers]


def unpack(body: bytes) -> list[tuple[memoryview, Headers]]:
    """The frames of a body, as views of it, and their headers; WireError if it is not a batch."""
    view = memoryview(body)
    frames: list[tuple[memoryview, Headers]] = []
    at = 0
    while at < len(view):
        if len(frames) == MOST_FRAMES:
            raise WireError(f"a batch has at most {MOST_FRAMES} frames")
        headers, at = _headers(view, at)
        end = _end_of_frame(view, at)
        frames.append((view[at:end], headers))
        at = end
    if not frames:
        raise WireError("a batch has at least one frame")
    return frames


def _headers(view: memoryview, at: int) -> tuple[Headers, int]:
    if len(view) - at < _LENGTH.size:
        raise WireError("a batch ends in the middle of a length")
    (length,) = _LENGTH.unpack_from(view, at)
    start = at + _LENGTH.size
    if length > min(_MOST_HEADER_BYTES, len(view) - start):
        raise WireError(f"a batch announces {length} bytes of headers, {len(view) - start} follow")
    encoded = bytes(view[start : start + length])
    if encoded == b"{}":  # as most are
        return {}, start + length
    try:
        members: object = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a frame's headers in a batch are not JSON: {error}") from None
    if not isinstance(members, dict):
        raise WireError("a frame's headers in a batch are not an object")
    return carried(cast("dict[str, Any]", members)), start + length


def _end_of_frame(view: memoryview, at: int) -> int:
    if len(view) - at < PREFIX_BYTES:
        raise WireError("a batch ends in the middle of a frame")
    header, body, _ = PREFIX.unpack_from(view, at)
    end = at + PREFIX_BYTES + header + body
    if end > len(view):
        raise WireError(f"a frame in a batch announces {header} + {body} bytes, fewer follow")
    return end


# ── the answer ──────────────────────────────────────────────────────────────────────────────────────


def pack_answer(verdicts: Sequence[Refusal | None]) -> bytes:
    """What became of each frame."""
    return json.dumps(
        [None if one is None else {"code": one[0], "text": one[1]} for one in verdicts],
        separators=(",", ":"),
    ).encode()


def unpack_answer(body: bytes, count: int) -> list[Refusal | None]:
    """Read it; WireError if it does not answer `count` frames."""
    try:
        members: object = json.loads(body)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, list) or len(cast("list[object]", members)) != count:
        raise WireError(f"wanted a list of {count} verdicts, got {body!r:.80}")
    return [_verdict(one) for one in cast("list[object]", members)]


def _verdict(member: object) -> Refusal | None:
    if member is None:
        return None
    if isinstance(member, dict):
        found = cast("dict[str, object]", member)
        code, text = found.get("code"), found.get("text", "")
        if isinstance(code, str) and isinstance(text, str):
            return code, text
    raise WireError(f"wanted null or a code and a text, got {member!r:.80}")
