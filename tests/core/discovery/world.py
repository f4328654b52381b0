"""A runtime for discovery backends to live in, and somebody who watches.

Apart from `conftest`, because worker processes need the runtime too.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Literal, cast

import pytest
from reqplane.interfaces import Budget, Discovery, Timers
from reqplane.model import Change, EndpointId, Instance, Limits, Load
from reqplane.wire.records import make_record

GENEROUS = 20.0
"""How long a loaded machine may take for what has no limit of its own."""


class FakeHost:
    """What a backend may see of the runtime."""

    limits = Limits()
    log = logging.getLogger("reqplane.test")

    def __init__(self, env: Mapping[str, str], dynamo: bool = False) -> None:
        self.env = env
        self.dynamo = dynamo
        self.process = f"{random.getrandbits(128):032x}"
        self.incarnation = random.getrandbits(63)

    @property
    def timers(self) -> Timers:
        raise NotImplementedError

    @property
    def inflight(self) -> Budget:
        raise NotImplementedError

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[Any]:
        return asyncio.create_task(work, name=name)

    def advertise(self, bind_host: str, toward: str = "") -> str:
        return "127.0.0.1"

    def ssl_context(self, role: Literal["server", "client"]) -> None:
        return None

    def reported(self, incarnation: int, load: Load) -> None:
        pass


def record(endpoint: EndpointId, instance_id: int, incarnation: int, address: str = "a:1") -> dict[str, Any]:
    return make_record(endpoint, instance_id, incarnation, {"tcp": address}, "json", ["tcp"])


class Seen:
    """Follows a watch: every change in order, and who is there now."""

    def __init__(self, changes: AsyncIterator[list[Change]]) -> None:
        self.watch = cast(AsyncGenerator[list[Change], None], changes)
        self.first: list[Change] | None = None
        self.changes: list[Change] = []
        self.now: dict[tuple[EndpointId, int], Instance] = {}
        self._moved = asyncio.Condition()
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for batch in self.watch:
            if self.first is None:
                self.first = batch
            async with self._moved:
                for change in batch:
                    self._note(change)
                self._moved.notify_all()
        async with self._moved:
            self._moved.notify_all()

    def _note(self, change: Change) -> None:
        self.changes.append(change)
        key = (change.instance.endpoint, change.instance.instance_id)
        if change.up:
            self.now[key] = change.instance
        else:
            del self.now[key]  # a `down` without an `up` is a defect

    @property
    def incarnations(self) -> set[int]:
        return {instance.incarnation for instance in self.now.values()}

    async def until(self, wanted: Callable[[Seen], object], timeout: float = GENEROUS) -> None:
        """Return as soon as it is so; fail when `timeout` has passed."""

        async def wait() -> None:
            async with self._moved:
                await self._moved.wait_for(lambda: wanted(self))

        try:
            await asyncio.wait_for(wait(), max(timeout, 0))
        except TimeoutError:
            pytest.fail(f"not seen within {timeout:.3f} s; there are {self.now}, changes {self.changes}")

    async def listed(self) -> list[Change]:
        await self.until(lambda seen: seen.first is not None)
        return cast(list[Change], self.first)

    async def close(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self.watch.aclose()


async def eventually(so: Callable[[], object], timeout: float = GENEROUS) -> None:
    """Poll until it is so."""
    async with asyncio.timeout(timeout):
        while not so():
            await asyncio.sleep(0.01)


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("reqplane")]


Opener = Callable[..., Awaitable[Discovery]]
"""Opens a backend: (name of the backend, **variables)."""
Watcher = Callable[..., Awaitable[Seen]]
"""Watches: (discovery, endpoint); the listing has been told when it returns."""
