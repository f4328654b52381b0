"""A load that keeps so many streaming requests in flight, through frontend processes, and counts them.

Every request has an id, which the worker that runs it writes to a file.  So afterwards it can be told which
were answered, which were not, and which ran twice.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

PATIENCE = 30.0
"""Seconds for what has to come in the end, on a loaded machine."""


@dataclass
class Answer:
    """What has come back for one id."""

    items: list[Any] = field(default_factory=list)
    error: str = ""
    plane: str = ""
    """Which one carried it, once it has come to its end without an error."""
    worker: int = -1
    sent: float = 0.0
    seconds: float = 0.0
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Door:
    """The connection to one frontend process (relay.py)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._waiting: dict[str, Answer] = {}
        self.leaving = False
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, name: str, request: dict[str, Any], timeout: float | None) -> Answer:
        answer = self._waiting[name] = Answer(sent=asyncio.get_running_loop().time())
        message = {"id": name, "request": {**request, "id": name}, "timeout": timeout}
        self._writer.write(json.dumps(message).encode() + b"\n")
        return answer

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                self._take(json.loads(line))
        except ConnectionError:
            pass
        self.leaving = True
        for name in list(self._waiting):
            self._end(name, {"error": "the frontend ended without an answer"})
        self._writer.close()

    def _take(self, message: dict[str, Any]) -> None:
        if "leaving" in message:
            self.leaving = True
            self._writer.write_eof()
        elif "item" in message:
            self._waiting[message["id"]].items.append(message["item"])
        else:
            self._end(message["id"], message)

    def _end(self, name: str, message: dict[str, Any]) -> None:
        answer = self._waiting.pop(name)
        answer.error = message.get("error", "")
        answer.plane, answer.worker = message.get("plane", ""), message.get("worker", -1)
        answer.seconds = asyncio.get_running_loop().time() - answer.sent
        answer.done.set()

    async def close(self) -> None:
        if not self.leaving:
            self.leaving = True
            self._writer.write_eof()
        await asyncio.wait([self._reading], timeout=PATIENCE)
        self._reading.cancel()


class Traffic:
    """The load, while it runs, and what has become of it."""

    def __init__(self, folder: Path, width: int, n: int, pause: float, timeout: float | None = None) -> None:
        self.doors: list[Door] = []
        self.answers: dict[str, Answer] = {}
        self.least = 0
        """The fewest requests that were in flight at any moment that was looked at."""
        self.looks = 0
        self._folder = folder
        folder.mkdir()
        self._width = width
        self._items = n
        self._request = {"n": n, "pause": pause, "folder": str(folder)}
        self._timeout = timeout
        self._in_flight = 0
        self._numbers = itertools.count()
        self._turns = itertools.count()
        self._stopping = False

    @asynccontextmanager
    async def running(self, doors: Sequence[Door]) -> AsyncGenerator[Self]:
        """From the first request to the last answer."""
        self.doors += doors
        slots = [asyncio.create_task(self._keep_one_in_flight()) for _ in range(self._width)]
        looking = asyncio.create_task(self._look())
        try:
            while self._in_flight < self._width:
                await asyncio.sleep(0.01)
            self.least = self._in_flight
            yield self
            looking.cancel()
            self.stop()
            _, late = await asyncio.wait(slots, timeout=PATIENCE)
            assert not late, f"{len(late)} requests got no answer within {PATIENCE} s"
        finally:
            for task in (looking, *slots):
                task.cancel()
            await asyncio.gather(looking, *slots, return_exceptions=True)
            for door in self.doors:
                await door.close()

    async def _keep_one_in_flight(self) -> None:
        while not self._stopping:
            door = self._door()
            name = str(next(self._numbers))
            answer = self.answers[name] = door.send(name, self._request, self._timeout)
            self._in_flight += 1
            await answer.done.wait()
            self._in_flight -= 1
            if answer.error:
                await asyncio.sleep(0.1)  # as people do

    def _door(self) -> Door:
        """The next frontend that does not leave."""
        staying = [door for door in self.doors if not door.leaving]
        assert staying, "no frontend is left"
        return staying[next(self._turns) % len(staying)]

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            self.looks += 1
            self.least = min(self.least, self._in_flight)

    def stop(self) -> None:
        """Send nothing more; what is in flight goes on."""
        self._stopping = True

    async def answered(self, more: int) -> None:
        """Wait until so many more requests, sent from now on, have their answers."""
        first = next(self._numbers)
        limit = asyncio.get_running_loop().time() + PATIENCE
        while sum(1 for n, one in self.answers.items() if int(n) > first and one.done.is_set()) < more:
            assert asyncio.get_running_loop().time() < limit, "hardly anything is answered any more"
            await asyncio.sleep(0.05)

    # ── afterwards ──

    def whole(self) -> dict[str, Answer]:
        """Those that were answered to the end, every item in its place."""
        wanted = list(range(self._items))
        return {n: one for n, one in self.answers.items() if one.plane and one.items == wanted}

    def errors(self) -> dict[str, str]:
        """What the callers of the others were told, "" if nothing although items are missing."""
        whole = self.whole()
        return {name: answer.error for name, answer in self.answers.items() if name not in whole}

    def ran(self) -> Counter[str]:
        """How often each request ran, by what the workers wrote."""
        return Counter(name for file in self._folder.iterdir() for name in file.read_text().split())

    def planes(self) -> Counter[str]:
        """How many were answered by which plane."""
        return Counter(answer.plane for answer in self.whole().values())
