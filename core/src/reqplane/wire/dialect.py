"""How one peer is talked to: the codec of its payloads, and whether items travel in an envelope.

Chosen once, from a worker's record (asking side) or a request's head (answering side), so that neither
side's code asks what its peer is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from reqplane.errors import PayloadError, WireError
from reqplane.model import Annotated, Body, Broken, End, Part
from reqplane.wire.failure import MAX_TEXT, error_fields, error_text
from reqplane.wire.response import ENVELOPES, Envelope, unwrap


class Codec(Protocol):
    """What of a payload codec is needed here."""

    def encode(self, value: Any) -> bytes: ...
    def decode(self, data: Body) -> Any: ...


class Fields:
    """An annotated item, decoded: `members` has `data`, `event`, `comment`, `id`, `error`, or some."""

    __slots__ = ("members",)

    def __init__(self, members: Mapping[str, Any]) -> None:
        self.members = members


class Dialect:
    """A codec on a stream that has no envelope: the shared connection."""

    __slots__ = ("decode", "encode", "item", "name")

    def __init__(self, name: str, codec: Codec) -> None:
        self.name = name
        self.encode = codec.encode
        self.decode = codec.decode
        self.item: Callable[[Any], bytes] = codec.encode
        """A plain item as it is written.  An attribute, since a method would cost a call an item."""

    # ── answering side ──

    def annotated(self, members: Mapping[str, Any]) -> bytes:
        """An item with more than data."""
        return self.encode(dict(members))

    def failure(self, error: BaseException, *, uncarried: bool = False, most: int = MAX_TEXT) -> bytes:
        """The item that tells of a handler's exception, whatever it holds; see `error_fields`."""
        try:
            return self.annotated(error_fields(error, uncarried=uncarried, most=most))
        except PayloadError:
            return self.annotated({"event": "error", "comment": [error_text(error, most)]})

    def end(self, report: bytes) -> bytes:
        """What goes into the stream's end: the worker's load report, where there is room for it."""
        return report

    # ── asking side ──

    def read(self, parts: list[Part]) -> list[Part | Fields]:
        """Parts of a response; what is still bytes afterwards is the encoding of a plain item."""
        return [*parts]

    def fields(self, part: Annotated) -> Fields:
        """An annotated item of a stream without envelope."""
        members = self.decode(part.body)
        if not isinstance(members, Mapping):
            raise WireError(f"an annotated item is {members!r:.60}, wanted an object")
        return Fields(members)  # pyright: ignore[reportUnknownArgumentType]


class EnvelopedDialect(Dialect):
    """A codec on a stream of Dynamo's form, whose items are wrapped (reqplane.wire.response)."""

    __slots__ = ("_envelope",)

    def __init__(self, name: str, codec: Codec) -> None:
        super().__init__(name, codec)
        envelope = ENVELOPES.get(self.name)
        if envelope is None:
            raise WireError(f"the codec {self.name!r} needs a shared response connection, the peer has none")
        self._envelope: Envelope = envelope
        self.item = self._wrapped

    def _wrapped(self, value: Any) -> bytes:
        return self._envelope.wrap(self.encode(value))

    def annotated(self, members: Mapping[str, Any]) -> bytes:
        return self._envelope.wrap_annotated(self.encode(dict(members)))

    def end(self, report: bytes) -> bytes:
        return self._envelope.final

    def read(self, parts: list[Part]) -> list[Part | Fields]:
        """The end marker is the end: what comes after it is left out, and without it nothing is whole.

        What is no envelope breaks the stream, after the items before it.
        """
        read: list[Part | Fields] = []
        for part in parts:
            if isinstance(part, End):
                read.append(Broken("the worker ended the stream without its end marker"))
                continue
            if not isinstance(part, bytes | bytearray):
                read.append(part)
                continue
            try:
                members, final = unwrap(self.decode(part))
            except PayloadError:  # the items before it come first; then it is decoded as a plain one, in vain
                return [*read, part]
            except WireError as error:
                return [*read, Broken(error.problem)]
            if members is not None:
                read.append(Fields(members))
            if final:
                return [*read, End()]
        return read
