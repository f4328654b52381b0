"""A client of ours, for any endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import ours
import reqplane
from asking import Asking, Call
from lines import Lines


class Clients:
    """One client for each endpoint that is asked for."""

    def __init__(self, runtime: reqplane.DistributedRuntime) -> None:
        self._runtime = runtime

    async def known(self, path: str) -> list[int]:
        return (await self._runtime.endpoint(path).client()).instance_ids()

    async def open(
        self, path: str, request: Any, instance: int | None = None, headers: Mapping[str, str] | None = None
    ) -> Call:
        client = await self._runtime.endpoint(path).client()
        context = reqplane.Context(headers=headers)
        if instance is None:
            stream = client.round_robin(request, context=context)
        else:
            stream = client.direct(request, instance, context=context)
        return Call(aiter(stream), stream.stop_generating)


async def main() -> None:
    lines = Lines()
    async with reqplane.connect(signals=False) as runtime:
        clients = Clients(runtime)
        lines.say("hello", **ours.hello())
        await Asking(lines, clients.open, clients.known, unsent=lambda error: False).obey()


asyncio.run(main())
