"""`python -m reqplane_conformance.response.process MODULE FILE CLASS LIMITS`: what `outside` starts."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import os
import sys
import time
from typing import Any

from reqplane.interfaces import HomeStream, PendingStream, ResponseTransport
from reqplane.model import Limits

from reqplane_conformance.host import SuiteHost
from reqplane_conformance.inside import find_class, follow, say
from reqplane_conformance.response.told import info_of, text_of


class Process:
    """A worker, a frontend, or both, until standard input ends."""

    def __init__(self, transport: ResponseTransport) -> None:
        self._transport = transport
        self._homes: list[HomeStream] = []
        self._pending: dict[str, PendingStream] = {}

    async def do(self, do: str, **how: Any) -> dict[str, Any] | None:
        step = getattr(self, f"_{do}")
        return await step(**how)

    # ── as a worker ──

    async def _call_home(self, info: dict[str, Any]) -> dict[str, Any]:
        home = await self._transport.call_home(info_of(info), lambda control: None)
        home.prologue(None)
        self._homes.append(home)
        return {"stream": len(self._homes) - 1}

    async def _write(self, stream: int, items: list[str], size: int, count: int) -> None:
        for item in items:
            self._homes[stream].write(base64.b64decode(item))
        for number in range(count):
            self._homes[stream].write(bytes([number % 256]) * size)

    async def _end(self, stream: int) -> None:
        self._homes[stream].end()

    async def _busy(self, seconds: float) -> None:
        time.sleep(seconds)

    # ── as a frontend ──

    async def _expect(self) -> dict[str, Any]:
        await self._transport.listen()
        pending = self._transport.expect("conformance")
        self._pending[pending.info.subject] = pending
        return {"info": dataclasses.asdict(pending.info)}

    async def _receive(self, subject: str) -> dict[str, Any]:
        return {"parts": [text_of(part) for part in await self._pending[subject].receive()]}


async def main(subject: Any, limits: dict[str, Any]) -> None:
    host = SuiteHost(os.environ, Limits(**limits))
    transport = await subject.open(host)
    say("opened")
    await follow(Process(transport).do)
    await transport.aclose()
    await host.aclose()


if __name__ == "__main__":
    asyncio.run(main(find_class(*sys.argv[1:4]), json.loads(sys.argv[4])))
