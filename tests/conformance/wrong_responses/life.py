"""Wrong in what they keep, and when they begin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from reqplane.interfaces import HomeStream
from reqplane.model import ConnectionInfo, Control
from reqplane_conformance.memory.lines import Side
from reqplane_conformance.memory.responses import MemoryResponses

from wrong_responses.table import wrong


@wrong(
    "life.nothing_left_over",
    "life.streams_leave_nothing",
)
class LeaksTasks(MemoryResponses):
    """Starts a task for each call home, and forgets it."""

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeStream:
        home = await super().call_home(info, control)
        asyncio.get_running_loop().create_task(asyncio.sleep(3600))
        return home


@wrong("life.streams_leave_nothing")
class RemembersAllSubjects(MemoryResponses):
    """Keeps what it has known, to recognise those that call twice."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._known: dict[str, list[Any]] = {}

    def claim(self, side: Side, number: int, subject: str) -> None:
        self._known[subject] = [side, number]
        super().claim(side, number, subject)


@wrong("life.address_in_use")
class WaitsForTheAddress(MemoryResponses):
    """Lets the error of bind out."""

    async def listen(self) -> None:
        try:
            await super().listen()
        except Exception as error:
            raise OSError(98, "Address already in use") from error
