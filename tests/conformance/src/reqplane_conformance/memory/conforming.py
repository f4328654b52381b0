"""Lets a transport that can't leave its process run the suite: its "outside" workers are inside."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from reqplane.errors import refusal
from reqplane.interfaces import Delivery
from reqplane.model import EndpointId, Instance

from reqplane_conformance.memory.network import network
from reqplane_conformance.request.hooks import RequestSuite
from reqplane_conformance.request.stage import Frontend, Got, RequestStage, Worker


class InsideWorker:
    """A worker of this event loop with the face of an `OutsideWorker`: killed and frozen by the network."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._address: str = worker.record[worker.transport.name]["address"]
        self.record: Mapping[str, Any] = worker.record
        self._last = 0
        self._drains = False

    @property
    def got(self) -> list[Got]:
        return self._worker.got

    @property
    def frames(self) -> list[bytes]:
        return self._worker.frames

    @property
    def endpoint(self) -> EndpointId:
        return self._worker.endpoint

    @property
    def incarnation(self) -> int:
        return self._worker.incarnation

    @property
    def instance(self) -> Instance:
        return self._worker.instance

    async def do(self, what: str, **how: Any) -> None:
        if what == "refuse":
            self._worker.refuse = refusal(how["code"], how.get("text", "")) if how.get("code") else None
        elif what == "takes":
            network().slow_down(self._address, how["seconds"])
        elif what == "dies":
            self._last, self._drains = len(self.got) + how["count"], how.get("drains", False)
            self._worker.on_accept = self._accepted
        elif what == "drain":
            await self._worker.listener.drain()
        elif what == "close":
            await self._worker.listener.close()

    def _accepted(self, delivery: Delivery) -> None:
        if len(self.got) == self._last and self._drains:
            self._leaving = asyncio.get_running_loop().create_task(self._drain_and_die())
        elif len(self.got) == self._last:
            self.kill()

    async def _drain_and_die(self) -> None:
        await self._worker.listener.drain()
        self.kill()

    def kill(self) -> None:
        network().vanish(self._address)

    def freeze(self) -> None:
        network().freeze(self._address)

    def thaw(self) -> None:
        network().thaw(self._address)

    async def aclose(self) -> None:
        self.kill()


class MemoryStage(RequestStage):
    """A stage whose strain reaches the network, which no socket carries."""

    async def frontend(self, env: Mapping[str, str] | None = None, **limits: Any) -> Frontend:
        network().delay = self.strain.delay
        return await super().frontend(env, **limits)


class InMemory(RequestSuite):
    """The first base of a conformance class: `class TestMine(InMemory, RequestTransportConformance)`."""

    stage_class = MemoryStage

    async def outside_worker(self, stage: RequestStage, **env: str) -> Any:
        return InsideWorker(await stage.worker("conformance.outside.generate", env=env))
