"""`python -m reqplane_conformance.discovery.process MODULE FILE CLASS`: the child of `OutsideWorkers`."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from typing import Any

from reqplane.interfaces import Discovery, Registration
from reqplane.model import EndpointId, Limits
from reqplane.wire.records import make_record

from reqplane_conformance.host import SuiteHost
from reqplane_conformance.inside import find_class, follow, say


class Process:
    """Does what it is told until standard input ends."""

    def __init__(self) -> None:
        self._backend: Discovery
        self._registrations: list[Registration] = []
        self._keeping: list[asyncio.Task[None]] = []

    async def run(self, subject: Any) -> None:
        host = SuiteHost(os.environ, Limits())
        self._backend = await subject.open(host)
        say("open")
        await follow(self._do)
        await self._backend.aclose()
        await host.aclose()

    async def _do(self, do: str, **how: Any) -> dict[str, Any] | None:
        if do == "reserve":
            return await self._reserve(EndpointId.parse(how["path"]), how["count"])
        if do == "register":
            return await self._register(EndpointId.parse(how["path"]))
        if do == "withdraw":
            await self._withdraw()
        return None

    async def _reserve(self, endpoint: EndpointId, count: int) -> dict[str, Any]:
        taking = [self._backend.reserve(endpoint, secrets.randbits(63)) for _ in range(count)]
        taken = await asyncio.gather(*taking)
        self._registrations += taken
        return {"numbers": [registration.instance_id for registration in taken]}

    async def _register(self, endpoint: EndpointId) -> dict[str, Any]:
        incarnation = secrets.randbits(63)
        registration = await self._backend.reserve(endpoint, incarnation)
        self._registrations.append(registration)
        await _publish(registration, endpoint, incarnation)
        self._keeping.append(asyncio.create_task(_keep(registration, endpoint, incarnation)))
        return {"number": registration.instance_id, "incarnation": incarnation}

    async def _withdraw(self) -> None:
        for keeping in self._keeping:
            keeping.cancel()
        for registration in self._registrations:
            await registration.withdraw()


async def _publish(registration: Registration, endpoint: EndpointId, incarnation: int) -> None:
    number = registration.instance_id
    await registration.publish(
        make_record(endpoint, number, incarnation, {"trial": "a:1"}, "json", ["trial"])
    )


async def _keep(registration: Registration, endpoint: EndpointId, incarnation: int) -> None:
    """As the core: whenever it is lost, it is taken again."""
    while True:
        await asyncio.wait([registration.lost])
        await registration.renew()
        await _publish(registration, endpoint, incarnation)


if __name__ == "__main__":
    asyncio.run(Process().run(find_class(*sys.argv[1:4])))
