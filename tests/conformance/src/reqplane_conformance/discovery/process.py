"""`python -m reqplane_conformance.discovery.process MODULE FILE CLASS`: the child of an OutsideProcess."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from typing import Any

from reqplane.interfaces import Discovery, Registration
from reqplane.model import EndpointId, Limits
from reqplane.wire.records import make_record

from reqplane_conformance.request.process import find_class
from reqplane_conformance.stage import SuiteHost


class Process:
    """Does what it is told until standard input ends."""

    def __init__(self) -> None:
        self._backend: Discovery
        self._registrations: list[Registration] = []
        self._keeping: set[asyncio.Task[None]] = set()

    def _say(self, what: str, **more: Any) -> None:
        print(json.dumps({"what": what, **more}), flush=True)

    async def run(self, subject: Any) -> None:
        host = SuiteHost(os.environ, Limits())
        self._backend = await subject.open(host)
        self._say("open")
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            told: dict[str, Any] = json.loads(line)
            self._say("done", **await getattr(self, f"_{told.pop('do')}")(**told))
        await self._close()
        await host.aclose()

    async def _reserve(self, path: str, count: int) -> dict[str, Any]:
        endpoint = EndpointId.parse(path)
        taking = [self._backend.reserve(endpoint, secrets.randbits(63)) for _ in range(count)]
        taken = await asyncio.gather(*taking)
        self._registrations += taken
        return {"numbers": [one.instance_id for one in taken]}

    async def _register(self, path: str) -> dict[str, Any]:
        endpoint, incarnation = EndpointId.parse(path), secrets.randbits(63)
        registration = await self._backend.reserve(endpoint, incarnation)
        self._registrations.append(registration)
        await self._publish(registration, endpoint, incarnation)
        keeping = asyncio.create_task(self._keep(registration, endpoint, incarnation))
        self._keeping.add(keeping)
        return {"number": registration.instance_id, "incarnation": incarnation}

    async def _publish(self, registration: Registration, endpoint: EndpointId, incarnation: int) -> None:
        number = registration.instance_id
        record = make_record(endpoint, number, incarnation, {"trial": "a:1"}, "json", ["trial"])
        await registration.publish(record)

    async def _keep(self, registration: Registration, endpoint: EndpointId, incarnation: int) -> None:
        """As the core: whenever it is lost, it is taken again."""
        while True:
            await asyncio.wait([registration.lost])
            await registration.renew()
            await self._publish(registration, endpoint, incarnation)
            self._say("renewed")

    async def _withdraw(self) -> dict[str, Any]:
        """Everything that it has."""
        for keeping in self._keeping:
            keeping.cancel()
        for registration in self._registrations:
            await registration.withdraw()
        return {}

    async def _close(self) -> dict[str, Any]:
        for keeping in self._keeping:
            keeping.cancel()
        await self._backend.aclose()
        return {}


if __name__ == "__main__":
    asyncio.run(Process().run(find_class(*sys.argv[1:4])))
