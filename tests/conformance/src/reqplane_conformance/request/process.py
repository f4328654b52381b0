"""`python -m reqplane_conformance.request.process MODULE FILE CLASS`: the child of an OutsideWorker."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
import time
from typing import Any

from reqplane.errors import refusal
from reqplane.interfaces import Delivery, Listener
from reqplane.model import EndpointId, Limits, Served

from reqplane_conformance.host import SuiteHost
from reqplane_conformance.inside import find_class, follow, say
from reqplane_conformance.request.copies import bytes_of, texts_of

ENDPOINT = EndpointId("conformance", "outside", "generate")


class Process:
    """Serves one endpoint until standard input ends."""

    def __init__(self) -> None:
        self._refuse: tuple[str, str] | None = None
        self._takes = 0.0
        self._accepts = self._last = 0
        self._drains = False
        self._listener: Listener
        self._leaving: asyncio.Task[None]

    def _accept(self, delivery: Delivery) -> None:
        if self._takes:
            time.sleep(self._takes)
        if self._refuse is not None:
            raise refusal(*self._refuse)
        at = time.monotonic()
        frame = base64.b64encode(bytes_of(delivery.frame)).decode()
        say("got", frame=frame, headers=texts_of(delivery.headers), at=at)
        self._accepts += 1
        if self._accepts == self._last and self._drains:
            self._leaving = asyncio.get_running_loop().create_task(self._drain_and_die())
        elif self._accepts == self._last:
            self._die()

    async def _drain_and_die(self) -> None:
        await self._listener.drain()
        self._die()

    def _die(self) -> None:
        """At once, as by `kill -9`."""
        os.kill(os.getpid(), signal.SIGKILL)

    async def run(self, subject: Any) -> None:
        host = SuiteHost(os.environ, Limits())
        transport = await subject.open(host)
        served = Served(ENDPOINT, host.incarnation, 0, "127.0.0.1:9")
        self._listener = await transport.listen(served, self._accept)
        say("listens", record=self._listener.record(0), incarnation=host.incarnation)
        await follow(self._do)
        await self._listener.close()
        await transport.aclose()
        await host.aclose()

    async def _do(self, do: str, **how: Any) -> None:
        if do == "refuse":
            self._refuse = (how["code"], how.get("text", "")) if how.get("code") else None
        elif do == "takes":
            self._takes = how["seconds"]
        elif do == "dies":
            self._last, self._drains = self._accepts + how["count"], how.get("drains", False)
        elif do == "drain":
            await self._listener.drain()
        elif do == "close":
            await self._listener.close()


if __name__ == "__main__":
    asyncio.run(Process().run(find_class(*sys.argv[1:4])))
