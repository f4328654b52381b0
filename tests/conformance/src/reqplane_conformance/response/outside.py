"""A worker or a frontend in a process of its own."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from reqplane.model import Broken, ConnectionInfo, End, Part

from reqplane_conformance.outside import OutsideProcess
from reqplane_conformance.response.told import info_of, part_of

if TYPE_CHECKING:
    from reqplane_conformance.response.stage import ResponseStage


class _Outside(OutsideProcess):
    module = "reqplane_conformance.response.process"
    ready = "opened"

    @classmethod
    async def begin(cls, stage: ResponseStage, env: Mapping[str, str], limits: Mapping[str, float]) -> Self:
        return await cls.start(stage, env, json.dumps(dict(limits)))


class OutsideCaller(_Outside):
    """A worker: calls home, and writes what it is told to."""

    async def call_home(self, info: ConnectionInfo) -> int:
        """Open a stream; its number here."""
        done = await self.do("call_home", info=dataclasses.asdict(info))
        return int(done["stream"])

    async def write(self, stream: int, *items: bytes, size: int = 0, count: int = 0) -> None:
        """Write these items, then `count` of `size` bytes, each filled with its number; waits for nothing."""
        texts = [base64.b64encode(item).decode() for item in items]
        await self.do("write", stream=stream, items=texts, size=size, count=count)

    async def end(self, stream: int) -> None:
        await self.do("end", stream=stream)

    async def busy(self, seconds: float) -> None:
        """Keep its event loop busy; returns when that is over."""
        await self.do("busy", seconds=seconds)


class OutsideFrontend(_Outside):
    """A frontend: expects answers, and reads them when it is told to."""

    async def expect(self) -> ConnectionInfo:
        """What a worker needs to call home."""
        return info_of((await self.do("expect"))["info"])

    async def receive(self, info: ConnectionInfo) -> list[Part]:
        """What its `receive` gives for this stream."""
        done = await self.do("receive", subject=info.subject)
        return [part_of(part) for part in done["parts"]]

    async def rest(self, info: ConnectionInfo) -> list[Part]:
        """All that comes up to the end."""
        parts: list[Part] = []
        while not parts or not isinstance(parts[-1], End | Broken):
            parts += await self.receive(info)
        return parts
