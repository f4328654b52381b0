"""A client of Dynamo's, for any endpoint."""

from __future__ import annotations

import asyncio
from typing import Any

import theirs
from asking import Asking, Call
from lines import Lines

_LAG = 0.1
"""Seconds until its router knows what `instance_ids` tells already; nothing says when it does."""


class Clients:
    """One client for each endpoint that is asked for."""

    def __init__(self) -> None:
        self._runtime = theirs.runtime()
        self._clients: dict[str, Any] = {}

    async def _client(self, path: str) -> Any:
        if path not in self._clients:
            self._clients[path] = await (await theirs.endpoint(self._runtime, path)).client()
        return self._clients[path]

    async def known(self, path: str) -> list[int]:
        ids = list((await self._client(path)).instance_ids())
        await asyncio.sleep(_LAG)
        return ids

    async def open(self, path: str, request: Any, instance: int | None = None) -> Call:
        client, context = await self._client(path), theirs.Context()
        if instance is None:
            items = await client.round_robin(request, annotated=False, context=context)
        else:
            items = await client.direct(request, instance, annotated=False, context=context)
        return Call(items, context.stop_generating)


async def main() -> None:
    lines, clients = Lines(), Clients()
    lines.say("hello", **theirs.hello())
    await Asking(lines, clients.open, clients.known, theirs.unsent).obey()


asyncio.run(main())
