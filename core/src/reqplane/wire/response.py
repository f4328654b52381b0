"""A response stream of one connection a stream, in Dynamo's form, and its envelope.

The worker connects to the address in the request's head and writes, each as one frame:

    1    header-only  {"subject":"…","stream_type":"response"}
    2    header-only  {"error":null}, or {"error":"text"} and nothing else
    3…   body-only    {"data":{"data":…},"complete_final":false}        an item in its envelope
    n-1  body-only    {"complete_final":true}                           the end marker
    n    header-only  "sentinel"

The frontend may write back the header-only frames "stop" and "kill".  A connection that closes before the
end marker is a broken stream.  Recorded from Dynamo 0.7 to 1.6; bodies are in the request's codec.

For a request that is itself a stream (Dynamo 1.6) the worker connects once more, and the frontend writes:

    1    header-only  {"subject":"…","stream_type":"request"}           the worker's, as above
    2…   body-only    the items, each by itself
    n    header-only  "sentinel"; or "stop" or "kill", where the request breaks off by that

Here too a connection that closes before the sentinel is a broken stream.

The plugin frames, the core wraps: this file has both, and shares nothing between them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from reqplane.errors import WireError
from reqplane.model import Body, Control, End, Part, Prologue
from reqplane.wire.frame import PREFIX_BYTES, Frame, FrameDecoder

SENTINEL = b'"sentinel"'
HANDSHAKE_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Handshake:
    """The first frame: which stream this connection is."""

    subject: str
    stream_type: str


# ── frames ──────────────────────────────────────────────────────────────────────────────────────────


def handshake(subject: str, stream_type: str = "response") -> bytes:
    return Frame(_dump({"subject": subject, "stream_type": stream_type})).head


def prologue(error: str | None) -> bytes:
    return Frame(_dump({"error": error})).head


def item(body: Body) -> tuple[bytes, Body]:
    """The buffers of a body-only frame."""
    return Frame(b"", body).buffers


def sentinel() -> bytes:
    return Frame(SENTINEL).head


def control(kind: Control) -> bytes:
    """The frame that a frontend writes back."""
    return Frame(_dump(kind.value)).head


def read_control(header: bytes, body: Body) -> Control:
    """What the frontend wrote back; WireError if it is neither stop nor kill."""
    for kind in (Control.STOP, Control.KILL):
        if not body and header == _dump(kind.value):
            return kind
    raise WireError(f'wanted "stop" or "kill", got {bytes(header)!r:.80}')


def read_requested(header: bytes, body: bytes | bytearray) -> Part | Control:
    """What the frontend wrote on the connection of a request: an item, End, STOP or KILL."""
    if not header:
        return body
    if header == SENTINEL and not body:
        return End()
    try:
        return read_control(header, body)
    except WireError:
        raise WireError(
            f'wanted an item, "sentinel", "stop" or "kill", got the header {bytes(header)!r:.80}'
        ) from None


def read_handshake(header: bytes, body: bytes) -> Handshake:
    """Read the first frame."""
    members = _members(header, "handshake")
    subject, stream_type = members.get("subject"), members.get("stream_type")
    if body or not isinstance(subject, str) or not isinstance(stream_type, str):
        raise WireError("the handshake wants a subject and a stream_type, both strings, and no body")
    return Handshake(subject, stream_type)


class ResponseReader:
    """What follows the handshake, cut into prologue, raw bodies and End.

    Bodies are still in their envelope, so this End is the sentinel: whether the end marker came before it,
    only who knows the codec can tell.  `limit` bounds a body in bytes.  What came before broken bytes is
    still given out: then `failed` says what is wrong with the rest, and the stream is lost.
    """

    __slots__ = ("_ended", "_frames", "_started", "failed")

    def __init__(self, limit: int) -> None:
        self._frames = FrameDecoder(limit + PREFIX_BYTES)
        self._started = False
        self._ended = False
        self.failed: WireError | None = None

    def feed(self, data: Body) -> list[Part]:
        """What these bytes complete; WireError if that is nothing because they are broken."""
        if self.failed is not None:
            raise self.failed
        events: list[Part] = []
        try:
            for header, body in self._frames.feed(data):
                events.append(self._event(header, body))
            self.failed = self._frames.failed
        except WireError as error:
            self.failed = error
            if not events:
                raise
        return events

    def _event(self, header: bytes, body: bytes | bytearray) -> Part:
        if self._ended:
            raise WireError("a frame after the sentinel")
        if not self._started:
            self._started = True
            return self._prologue(header, body)
        if not header:
            return body
        if body or header != SENTINEL:
            raise WireError(f"wanted an item or the sentinel, got the header {header!r:.80}")
        self._ended = True
        return End()

    @staticmethod
    def _prologue(header: bytes, body: Body) -> Prologue:
        members = _members(header, "prologue")
        error = members.get("error", ...)
        if body or not (error is None or isinstance(error, str)):
            raise WireError('the prologue wants "error": null or a text, and no body')
        return Prologue(error)


def _members(header: bytes, what: str) -> dict[str, Any]:
    try:
        members: object = json.loads(header)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        raise WireError(f"wanted the {what}, got {bytes(header)!r:.80}")
    return cast("dict[str, Any]", members)


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


# ── the envelope ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Envelope:
    """One codec's envelope, as the bytes around an item's body."""

    before_data: bytes
    after_data: bytes
    before_item: bytes
    after_item: bytes
    final: bytes

    def wrap(self, data: bytes) -> bytes:
        """Around a plain value."""
        return b"".join((self.before_data, data, self.after_data))

    def wrap_annotated(self, annotated: bytes) -> bytes:
        """Around an object with `data`, `event`, `comment`, `id`, `error`."""
        return b"".join((self.before_item, annotated, self.after_item))


ENVELOPES: Mapping[str, Envelope] = {
    "json": Envelope(
        before_data=b'{"data":{"data":',
        after_data=b'},"complete_final":false}',
        before_item=b'{"data":',
        after_item=b',"complete_final":false}',
        final=b'{"complete_final":true}',
    ),
    "msgpack": Envelope(
        before_data=b"\x82\xa4data\x81\xa4data",
        after_data=b"\xaecomplete_final\xc2",
        before_item=b"\x82\xa4data",
        after_item=b"\xaecomplete_final\xc2",
        final=b"\x81\xaecomplete_final\xc3",
    ),
}


def unwrap(value: Any) -> tuple[Mapping[str, Any] | None, bool]:
    """An envelope, decoded: (the annotated value or None, whether the answer ends here).

    WireError if it is not an envelope.
    """
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        inner, final = members.get("data"), members.get("complete_final")
        if isinstance(final, bool) and (inner is None or isinstance(inner, Mapping)):
            if inner is None and not final:
                raise WireError("an envelope has neither data nor the end")
            return cast("Mapping[str, Any] | None", inner), final
    raise WireError(f"wanted an item's envelope, got {value!r:.80}")
