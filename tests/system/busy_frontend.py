"""A frontend under load, as a process: so many calls in flight until SIGTERM.

    python busy_frontend.py PATH CALLS FOLDER PACE

PACE 0.5 makes each call take twice as long.

Half of the calls get one item, half a stream of 20.  Every call is told twice on standard output, a JSON
object a line: when it begins, and when it ends, with what became of it.  So is, whenever it changes, which
workers the frontend knows.  Times are of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from typing import Any

import reqplane

ONE = {"n": 1, "pause": 0.2}
MANY = {"n": 20, "pause": 0.015}
PAUSE = 0.05
"""Seconds until a caller whose call failed makes the next one."""


def tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


class Traffic:
    """Callers who call again as soon as they have their answer."""

    def __init__(self, client: reqplane.Client, folder: str, pace: float) -> None:
        self._client = client
        self._folder = folder
        self._pace = pace
        self._numbers = itertools.count()
        self._over = asyncio.Event()

    def stop(self) -> None:
        """Make no more calls."""
        self._over.set()

    async def run(self, callers: int) -> None:
        """Until stopped, and until all calls have ended."""
        watching = asyncio.ensure_future(self._watch())
        await asyncio.gather(*(self._call_on_and_on(number) for number in range(callers)))
        watching.cancel()

    async def _call_on_and_on(self, number: int) -> None:
        await asyncio.sleep(number * 0.01)
        while not self._over.is_set():
            if not await self._call(MANY if number % 2 else ONE):
                await asyncio.sleep(PAUSE)

    async def _call(self, kind: dict[str, Any]) -> bool:
        """One call; whether it was answered."""
        name = f"{os.getpid()}-{next(self._numbers)}"
        tell(id=name, begin=time.monotonic())
        request = {"id": name, "folder": self._folder, **kind, "pause": kind["pause"] / self._pace}
        stream = self._client.generate(request)
        error: Exception | None = None
        items: list[Any] = []
        try:
            async for item in stream:
                items.append(item)
            if items != list(range(kind["n"])):
                error = AssertionError(f"the items are {items}")
        except Exception as caught:
            error = caught
        known = stream.instance
        tell(
            id=name,
            end=time.monotonic(),
            error=None if error is None else type(error).__name__,
            text=str(error or ""),
            reason=getattr(error, "reason", None),
            instance=getattr(error, "instance", None) if known is None else str(known.instance_id),
        )
        return error is None

    async def _watch(self) -> None:
        """Tell who there is."""
        former = None
        while True:
            known = [
                [one.instance_id, one.incarnation, json.dumps(dict(one.transport))]
                for one in self._client.instances()
            ]
            if known != former:
                tell(known=known, at=time.monotonic())
            former = known
            await asyncio.sleep(0.02)


async def main(path: str, callers: int, folder: str, pace: float) -> None:
    async with reqplane.connect() as runtime:
        client = await runtime.endpoint(path).client()
        await client.wait_for_instances(timeout=60)
        traffic = Traffic(client, folder, pace)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, traffic.stop)
        await traffic.run(callers)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])))
