"""Lets a response transport that can't leave its process run the suite: what is outside is inside."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from reqplane.interfaces import HomeStream, PendingStream
from reqplane.model import ConnectionInfo, Part

from reqplane_conformance.host import SuiteHost
from reqplane_conformance.memory.network import network
from reqplane_conformance.memory.responses import MemoryResponses
from reqplane_conformance.response.hooks import ResponseSuite
from reqplane_conformance.response.stage import Process, ResponseStage, info_from


class _Inside:
    """A process of this event loop with the face of an outside one."""

    def __init__(self, process: Process) -> None:
        assert isinstance(process.transport, MemoryResponses)
        self.transport = process.transport

    def kill(self) -> None:
        self.transport.vanish()

    def freeze(self) -> None:
        self.transport.frozen = True

    def thaw(self) -> None:
        self.transport.thaw()

    async def aclose(self) -> None:
        self.kill()


class InsideCaller(_Inside):
    """As `response.outside.OutsideCaller`."""

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self._homes: list[HomeStream] = []

    async def call_home(self, info: ConnectionInfo) -> int:
        home = await self.transport.call_home(info_from(info), lambda control: None)
        home.prologue(None)
        self._homes.append(home)
        return len(self._homes) - 1

    async def write(self, stream: int, *items: bytes, size: int = 0, count: int = 0) -> None:
        for item in (*items, *(bytes([number % 256]) * size for number in range(count))):
            self._homes[stream].write(item)

    async def end(self, stream: int) -> None:
        self._homes[stream].end()

    async def busy(self, seconds: float) -> None:
        self.freeze()
        time.sleep(seconds)
        self.thaw()


class InsideFrontend(_Inside):
    """As `response.outside.OutsideFrontend`."""

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self._pending: dict[str, PendingStream] = {}

    async def expect(self) -> ConnectionInfo:
        await self.transport.listen()
        pending = self.transport.expect("conformance")
        self._pending[pending.info.subject] = pending
        return pending.info

    async def receive(self, info: ConnectionInfo) -> list[Part]:
        return await self._pending[info.subject].receive()


class MemoryStage(ResponseStage):
    """A stage whose strain reaches the network, which no socket carries."""

    async def open(self, env: Mapping[str, str] | None = None, **limits: Any) -> tuple[Any, SuiteHost]:
        network().delay = self.strain.delay
        return await super().open(env, **limits)


class InMemory(ResponseSuite):
    """The first base of a conformance class: `class TestMine(InMemory, ResponseTransportConformance)`."""

    stage_class = MemoryStage

    async def outside_worker(self, stage: ResponseStage, **limits: float) -> Any:
        return InsideCaller(await stage.process(**limits))

    async def outside_frontend(self, stage: ResponseStage, env: Mapping[str, str], **limits: float) -> Any:
        return InsideFrontend(await stage.process(env, **limits))
