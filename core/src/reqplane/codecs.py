"""The codecs that come with Reqplane: msgpack and json.

What a value looks like on the other side is what the format says: tuples arrive as lists, json turns the
keys of a mapping into text.  What a format can't say at all is a PayloadError, never another value.  Values
are carried up to 500 levels deep; how much deeper they may be depends on Python's stack.  A payload may hold
half a million lists and mappings (reqplane.containers).

msgspec is used where it is installed, with the same results.  It decodes both formats.  It can't be kept from
encoding what the formats don't have: a date becomes text, a set a list, and in json NaN becomes null and
bytes become text.  So what it wrote as json is read back and compared, which still costs less than json's
own encoder.  For msgpack it would cost more than it saves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]

from reqplane.containers import MAX_CONTAINERS, Counter, check_json, msgpack_may_hold_too_many
from reqplane.errors import PayloadError
from reqplane.faster import find_msgspec
from reqplane.interfaces import PayloadCodec
from reqplane.model import Body

_msgpack = cast(Any, msgpack)  # it has no types
_FASTER = find_msgspec()


def _problem(error: Exception) -> str:
    """Why a codec library gave up; some of its errors have no text."""
    return str(error) or type(error).__name__


# ── msgpack ─────────────────────────────────────────────────────────────────────────────────────────


class MsgpackCodec(PayloadCodec):
    """msgpack, with text and bytes told apart.

    A timestamp, which others may send, arrives as a datetime; other extension types are refused.
    `msgspec` is the module of that name, or None to do without.
    """

    name = "msgpack"

    def __init__(self, msgspec: Any = _FASTER) -> None:
        self._pack: Callable[[Any], bytes] = _msgpack.Packer(use_bin_type=True).pack
        self._unpack: Callable[[Body], Any] = _unpack
        if msgspec is not None:
            self._unpack = msgspec.msgpack.Decoder(ext_hook=_no_such_extension).decode

    def encode(self, value: Any) -> bytes:
        try:
            return self._pack(value)
        except Exception as error:
            # A Packer is reused because that halves the cost; one that raised may still hold half a value.
            self._pack = _msgpack.Packer(use_bin_type=True).pack
            raise PayloadError(f"msgpack: {_problem(error)}") from error

    def decode(self, data: Body) -> Any:
        try:
            if len(data) > MAX_CONTAINERS and msgpack_may_hold_too_many(data):
                return _unpack_counting(data)
            return self._unpack(data)
        except PayloadError:
            raise
        except Exception as error:
            raise PayloadError(f"not msgpack: {_problem(error)}") from error


def _no_such_extension(code: int, data: Any) -> NoReturn:
    raise ValueError(f"the extension type {code} is not carried")


_unpackb = partial(
    _msgpack.unpackb, raw=False, strict_map_key=False, timestamp=3, ext_hook=_no_such_extension
)

_LIES_FROM = 1024
"""Shorter payloads can't tell lengths that would hurt."""


def _unpack(data: Body) -> Any:
    """Decode by the package msgpack alone."""
    if len(data) > _LIES_FROM:
        _check_lengths(data)
    try:
        return _unpackb(data)
    except TypeError:  # a key is a list; the hook takes time for each mapping, so only now
        return _unpackb(data, object_pairs_hook=_mapping)


def _unpack_counting(data: Body) -> Any:
    """The same, but give up when there are too many lists and mappings."""
    _check_lengths(data)
    count = Counter(len(data))
    return _unpackb(data, list_hook=count, object_pairs_hook=lambda pairs: _mapping(count(pairs)))  # type: ignore[no-any-return]


def _check_lengths(data: Body) -> None:
    """Walk through the bytes without building anything; they may be cut off or lie.

    msgpack takes the memory of a list by the length that it tells, which it compares to that of the whole
    payload only: a thousand lists, each the first item of the one before, take that a thousand times.
    """
    walker = _msgpack.Unpacker(max_buffer_size=0)
    walker.feed(data)
    walker.skip()


def _mapping(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """What was a tuple when it was a key arrives as one."""
    return {_key(key): value for key, value in pairs}


def _key(key: Any) -> Any:
    return tuple(map(_key, cast("list[Any]", key))) if isinstance(key, list) else key


# ── json ────────────────────────────────────────────────────────────────────────────────────────────


class JsonCodec(PayloadCodec):
    """JSON in UTF-8.  It has no bytes and no NaN.

    `msgspec` is the module of that name, or None to do without.  What it can't do, or would write as another
    value, is left to the standard library, which thereby decides what is carried.
    """

    name = "json"

    def __init__(self, msgspec: Any = _FASTER) -> None:
        self._to_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
        self._from_text = json.JSONDecoder(parse_constant=_no_such_number).decode
        self._quick_encode: Callable[[Any], bytes] | None = msgspec and msgspec.json.Encoder().encode
        self._quick_decode: Callable[[Body], Any] | None = msgspec and msgspec.json.Decoder().decode

    def encode(self, value: Any) -> bytes:
        if self._quick_encode is not None and self._quick_decode is not None:
            try:
                data = self._quick_encode(value)
                if self._quick_decode(data) == value:
                    return data
            except Exception:
                pass
        try:
            return self._to_text(value).encode()
        except Exception as error:
            raise PayloadError(f"json: {_problem(error)}") from error

    def decode(self, data: Body) -> Any:
        try:
            if len(data) > 2 * MAX_CONTAINERS:  # each has a bracket at both ends
                check_json(data)
            return self._decode(data)
        except PayloadError:
            raise
        except Exception as error:
            raise PayloadError(f"not json: {_problem(error)}") from error

    def _decode(self, data: Body) -> Any:
        if self._quick_decode is not None:
            try:
                return self._quick_decode(data)
            except Exception:
                pass  # such as 1e999 or half a surrogate pair
        return self._from_text(str(data, "utf-8"))


def _no_such_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
