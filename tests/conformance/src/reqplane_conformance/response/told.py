"""How the two processes of a case tell each other of streams and of what comes in them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reqplane.model import Broken, ConnectionInfo, End, Part, Prologue, SharedOffer


def info_of(members: Mapping[str, Any]) -> ConnectionInfo:
    """The reverse of `dataclasses.asdict`."""
    offer = None if members["shared"] is None else SharedOffer(**members["shared"])
    request = None if members["request"] is None else info_of(members["request"])
    return replace(ConnectionInfo(**members), shared=offer, request=request)


def text_of(part: Part) -> str:
    """A part that a frontend's process tells; `part_of` is the reverse."""
    if isinstance(part, bytes | bytearray):
        return f"item:{base64.b64encode(part).decode()}"
    return f"{type(part).__name__}:{getattr(part, 'reason', '')}"


def part_of(text: str) -> Part:
    kind, _, rest = text.partition(":")
    if kind == "item":
        return base64.b64decode(rest)
    return {"Prologue": Prologue(), "End": End()}.get(kind) or Broken(rest)
