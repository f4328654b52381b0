"""A runtime that is opened when it is first needed.

Dynamo's constructor is an ordinary function where Reqplane's `connect()` waits for servers.  So a task opens
the runtime, holds it open, and closes it when it is told to, or when the event loop ends and cancels it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

from reqplane.host import draw_incarnation
from reqplane.runtime import DistributedRuntime as OwnRuntime
from reqplane.runtime import connect


class Opening:
    """One of Reqplane's runtimes, with `env` on top of the process's variables."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.number = draw_incarnation()
        """What its worker is known by, in Dynamo's wire profile."""
        self.dynamo = env["DYN_WIRE_PROFILE"] == "dynamo"
        self._env = env
        self._leave = asyncio.Event()
        self._opened: asyncio.Future[OwnRuntime] | None = None
        self._holding: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def leaves(self) -> bool:
        """Whether it has been told to shut down."""
        return self._leave.is_set()

    async def runtime(self) -> OwnRuntime:
        """The runtime, opened by the first who asks; raises what `connect` does, and may be asked again."""
        if self._leave.is_set():
            raise RuntimeError("this DistributedRuntime has been shut down")
        if self._opened is None:
            loop = asyncio.get_running_loop()
            self._opened = loop.create_future()
            self._holding = loop.create_task(self._hold(self._opened))
        return await asyncio.shield(self._opened)

    async def _hold(self, opened: asyncio.Future[OwnRuntime]) -> None:
        try:
            async with connect(self._env, signals=False, incarnation=self.number) as runtime:
                opened.set_result(runtime)
                await self._leave.wait()
        except Exception as error:
            if opened.done():
                raise
            self._opened = None
            opened.set_exception(error)
            opened.exception()  # whoever asked may be gone
        finally:
            opened.cancel()  # no effect on one that is done
            for task in self._tasks:
                task.cancel()

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Run it until it ends, or until the runtime is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def shutdown(self) -> None:
        """Begin to close: what is served drains first.  From any thread."""
        if self._holding is None:
            self._leave.set()
        else:
            with suppress(RuntimeError):  # the loop is closed, and everything with it
                self._holding.get_loop().call_soon_threadsafe(self._leave.set)

    async def closed(self) -> None:
        """Close, and wait for it."""
        self._leave.set()
        if self._holding is not None:
            await asyncio.shield(self._holding)
