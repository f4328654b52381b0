"""What is fuzzed: each target takes any bytes, and raises if an invariant is broken.

Where a target reads a stream, the first byte says how the rest is split up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fuzz.connections import frontend, worker
from fuzz.invariants import LIMIT, same_however_split, shown, tried
from reqplane.codecs import JsonCodec, MsgpackCodec
from reqplane.errors import PayloadError, WireError
from reqplane.interfaces import PayloadCodec
from reqplane.model import EndpointId, Instance
from reqplane.wire import frame as frames
from reqplane.wire import records as written
from reqplane.wire import shared as call_home
from reqplane.wire.request import RequestHead, decode_head
from reqplane.wire.response import ResponseReader, read_control, read_handshake, unwrap
from reqplane_http import batch as batches

Target = Callable[[bytes], object]
_CODECS = [MsgpackCodec(), JsonCodec()]


# ── frames ──────────────────────────────────────────────────────────────────────────────────────────


def frame(data: bytes) -> None:
    """The decoder, `split` and `take_first` against a decoder that is too simple to be wrong."""
    found, problem, rest = _simple_frames(data[1:])
    assert same_however_split(data, _fed) == (found, problem, problem is None and bool(rest))
    stream = data[1:]
    _check_first(stream, found, problem)
    alone = tried(lambda: [bytes(part) for part in frames.split(stream, LIMIT)])
    if len(found) == 1 and problem is None and not rest:
        assert alone == list(found[0])
    else:
        assert isinstance(alone, str)


def _fed(parts: Iterable[bytes]) -> tuple[list[tuple[bytes, bytes]], str | None, bool]:
    decoder = frames.FrameDecoder(LIMIT)
    found: list[tuple[bytes, bytes]] = []
    for part in parts:
        try:
            found += [(header, bytes(body)) for header, body in decoder.feed(part)]
        except WireError as error:
            return found, shown(error), False
        if decoder.failed is not None:
            return found, shown(decoder.failed), False
    return found, None, decoder.pending


def _simple_frames(data: bytes) -> tuple[list[tuple[bytes, bytes]], str | None, bytes]:
    found: list[tuple[bytes, bytes]] = []
    while len(data) >= frames.PREFIX_BYTES:
        header, body, checksum = frames.PREFIX.unpack_from(data)
        if header + body + frames.PREFIX_BYTES > LIMIT:
            problem = f"the frame announces {header} + {body} bytes, at most {LIMIT - 24} are allowed"
            return found, problem, data
        end = frames.PREFIX_BYTES + header + body
        if len(data) < end:
            break
        content = data[frames.PREFIX_BYTES : end]
        if checksum and frames._xxh3 is not None and frames._xxh3(content) != checksum:
            return found, "the frame's checksum does not match its bytes", data
        found.append((content[:header], content[header:]))
        data = data[end:]
    return found, None, data


def _check_first(data: bytes, found: list[tuple[bytes, bytes]], problem: str | None) -> None:
    first = tried(lambda: frames.take_first(data, LIMIT))
    if found:
        header, body = found[0]
        size = frames.PREFIX_BYTES + len(header) + len(body)
        assert first == (header, body, data[size:])
    else:
        assert first == problem


# ── requests ────────────────────────────────────────────────────────────────────────────────────────


def request(data: bytes) -> None:
    """A request's head."""
    head = tried(lambda: decode_head(data))
    if isinstance(head, RequestHead):
        assert head.timeout is None or (head.timeout >= 0 and math.isfinite(head.timeout))
        for text in (head.request_id, head.codec, head.connection.address, head.connection.subject):
            assert isinstance(text, str)
        for name, value in head.headers.items():
            assert name == name.lower()
            assert value.isascii()
            assert value.isprintable()
            assert len(value) <= 1024


def batch(data: bytes) -> None:
    """Several frames in one POST, and what is answered to them."""
    unpacked = tried(lambda: batches.unpack(data))
    if not isinstance(unpacked, str):
        assert 1 <= len(unpacked) <= batches.MOST_FRAMES
        for view, headers in unpacked:
            assert all(value.isprintable() for value in headers.values())
            tried(lambda view=view: frames.split(view, LIMIT))
        again = b"".join(
            bytes(piece)
            for view, headers in unpacked
            for piece in (*batches.pack(frames.Frame(b""), headers)[:-2], view)
        )
        assert batches.unpack(again) == unpacked
    count = data[0] % 8 if data else 0
    verdicts = tried(lambda: batches.unpack_answer(data[1:], count))
    if not isinstance(verdicts, str):
        assert len(verdicts) == count
        assert batches.unpack_answer(batches.pack_answer(verdicts), count) == verdicts


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────


def shared(data: bytes) -> None:
    """A shared connection's frames, its opening, and the bodies that are read."""
    same_however_split(data, _shared_fed)
    stream = data[1:]
    for read in (call_home.read_opening, call_home.read_welcome):
        tried(lambda read=read: read(stream, b""))
        assert isinstance(tried(lambda read=read: read(stream, b"body")), str)
    for read in (call_home.read_load, call_home.read_credit):
        tried(lambda read=read: read(stream))


def _shared_fed(parts: Iterable[bytes]) -> tuple[list[tuple[int, int, bytes]], str | None, bool]:
    decoder = call_home.SharedDecoder(LIMIT)
    found: list[tuple[int, int, bytes]] = []
    for part in parts:
        try:
            found += [(kind, stream, bytes(body)) for kind, stream, body in decoder.feed(part)]
        except WireError as error:
            return found, shown(error), False
        if decoder.failed is not None:
            return found, shown(decoder.failed), False
    return found, None, decoder.pending


def response(data: bytes) -> None:
    """A response connection of one stream, in Dynamo's form."""
    same_however_split(data, _response_fed)
    stream = data[1:]
    for body in (b"", b"body"):
        tried(lambda body=body: read_handshake(stream, body))
        tried(lambda body=body: read_control(stream, body))
    for codec in _CODECS:
        tried(lambda codec=codec: unwrap(codec.decode(stream)))


def _response_fed(parts: Iterable[bytes]) -> tuple[list[Any], str | None]:
    reader = ResponseReader(LIMIT)
    found: list[Any] = []
    for part in parts:
        try:
            found += reader.feed(part)
        except WireError as error:
            return found, shown(error)
        if reader.failed is not None:
            return found, shown(reader.failed)
    return found, None


def payload(data: bytes) -> None:
    """The core's own codecs: the same value with msgspec and without, which encodes again to the same."""
    for codec in (MsgpackCodec, JsonCodec):
        values = [_decoded(one, data) for one in (codec(), codec(None))]
        assert repr(values[0]) == repr(values[1])


def _decoded(codec: PayloadCodec, data: bytes) -> object:
    """The value, or that it is none."""
    try:
        value = codec.decode(data)
        encoded = codec.encode(value)
    except PayloadError as error:
        shown(error)
        return PayloadError
    assert repr(codec.decode(encoded)) == repr(value)
    return value


# ── discovery ───────────────────────────────────────────────────────────────────────────────────────


def records(data: bytes) -> None:
    """A key, a new line, a value."""
    key_bytes, _, value = data.partition(b"\n")
    key = key_bytes.decode(errors="surrogateescape")
    named = tried(lambda: written.parse_key(key))
    instance = tried(lambda: written.parse_record(key, value))
    if isinstance(instance, Instance):
        worker = (instance.endpoint, instance.instance_id)
        assert named == worker
        _check_endpoint(instance.endpoint)
        assert written.parse_key(written.guide_key(*worker)) == worker


def _check_endpoint(endpoint: EndpointId) -> None:
    for part in (endpoint.namespace, endpoint.component, endpoint.name):
        assert part.isascii()
        assert part.replace("-", "").replace("_", "").isalnum()


TARGETS: Mapping[str, Target] = {
    target.__name__: target
    for target in (frame, request, batch, shared, frontend, worker, response, payload, records)
}
