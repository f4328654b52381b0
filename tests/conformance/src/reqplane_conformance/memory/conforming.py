"""Lets a transport that can't leave its process run the suite: its "outside" workers are inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reqplane.errors import refusal
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

    async def do(self, what: str, code: str = "", text: str = "", seconds: float = 0.0) -> None:
        if what == "refuse":
            self._worker.refuse = refusal(code, text) if code else None
        elif what == "takes":
            network().slow_down(self._address, seconds)
        elif what == "drain":
            await self._worker.listener.drain()
        elif what == "close":
            await self._worker.listener.close()

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
