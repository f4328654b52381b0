"""The codecs that come with Reqplane: msgpack and json.

What a value looks like on the other side is what the format says: tuples arrive as lists, json turns the
keys of a mapping into text.  What a format can't say at all is a PayloadError, never another value.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]

from reqplane.errors import PayloadError
from reqplane.interfaces import PayloadCodec
from reqplane.model import Body

_msgpack = cast(Any, msgpack)  # it has no types


def _problem(error: Exception) -> str:
    """Why a codec library gave up; some of its errors have no text."""
    return str(error) or type(error).__name__


class MsgpackCodec(PayloadCodec):
    """msgpack, with text and bytes told apart."""

    name = "msgpack"

    def __init__(self) -> None:
        self._pack: Callable[[Any], bytes] = _msgpack.Packer(use_bin_type=True).pack

    def encode(self, value: Any) -> bytes:
        try:
            return self._pack(value)
        except Exception as error:
            # A Packer is reused because that halves the cost; one that raised may still hold half a value.
            self._pack = _msgpack.Packer(use_bin_type=True).pack
            raise PayloadError(f"msgpack: {_problem(error)}") from error

    def decode(self, data: Body) -> Any:
        try:
            # Every length it reads is bounded by the buffer's own length, so one that lies costs nothing.
            return _msgpack.unpackb(data, raw=False, strict_map_key=False)
        except Exception as error:
            raise PayloadError(f"not msgpack: {_problem(error)}") from error


def _no_such_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


class JsonCodec(PayloadCodec):
    """JSON in UTF-8.  It has no bytes and no NaN."""

    name = "json"

    def __init__(self) -> None:
        self._to_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
        self._from_text = json.JSONDecoder(parse_constant=_no_such_number).decode

    def encode(self, value: Any) -> bytes:
        try:
            return self._to_text(value).encode()
        except Exception as error:
            raise PayloadError(f"json: {_problem(error)}") from error

    def decode(self, data: Body) -> Any:
        try:
            return self._from_text(str(data, "utf-8"))
        except Exception as error:
            raise PayloadError(f"not json: {_problem(error)}") from error
