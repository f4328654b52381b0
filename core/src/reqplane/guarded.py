"""A plugin's codec, held to its contract: what goes wrong in it is a PayloadError, whatever it raises.

A foreign exception from a codec would reach callers bare, or break an answer that only has one bad item.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reqplane.codecs import JsonCodec, MsgpackCodec
from reqplane.errors import PayloadError
from reqplane.interfaces import PayloadCodec
from reqplane.model import Body
from reqplane.wire.failure import error_text


def guarded(codec: PayloadCodec) -> PayloadCodec:
    """The codec as calls use it; ours keep to the contract by themselves."""
    return codec if type(codec) in (MsgpackCodec, JsonCodec) else _Guarded(codec)


class _Guarded(PayloadCodec):
    def __init__(self, codec: PayloadCodec) -> None:
        self.name = codec.name  # pyright: ignore[reportAttributeAccessIssue]
        self._encode: Callable[[Any], object] = codec.encode
        self._decode = codec.decode

    def encode(self, value: Any) -> bytes:
        try:
            data = self._encode(value)
        except PayloadError:
            raise
        except Exception as error:
            raise PayloadError(f"{self.name}: {error_text(error)}") from error
        if not isinstance(data, bytes):
            raise PayloadError(f"the codec {self.name} made {type(data).__name__} of it, wanted bytes")
        return data

    def decode(self, data: Body) -> Any:
        try:
            return self._decode(data)
        except PayloadError:
            raise
        except Exception as error:
            raise PayloadError(f"{self.name}: {error_text(error)}") from error
