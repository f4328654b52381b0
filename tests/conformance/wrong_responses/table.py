"""The table of them, and what puts them there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reqplane.model import Part
from reqplane_conformance.memory.responses import MemoryResponses


@dataclass(frozen=True)
class Wrong:
    """A transport, the case that is meant for it and told first, and those that are told besides.

    `perhaps`: those that are told only sometimes.
    """

    transport: type[MemoryResponses]
    meant: str
    also: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.transport.__name__


WRONG: list[Wrong] = []


def wrong(meant: str, *also: str, perhaps: tuple[str, ...] = ()) -> Callable[[type[Any]], type[Any]]:
    """Put a transport into the table."""

    def add(transport: type[Any]) -> type[Any]:
        WRONG.append(Wrong(transport, meant, also, perhaps))
        return transport

    return add


def is_item(part: Part) -> bool:
    return isinstance(part, bytes | bytearray)
