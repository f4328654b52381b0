"""The handler that the workers of both sides serve, and how they are told to leave.

A request is `{"do": …, "call": a name for it, …}`.  The worker tells of each what became of it: `began`, then
`ended`, `stopped` (it saw that it should), `failed` or `cut` (something ended it from outside).
"""

from __future__ import annotations

import asyncio
import builtins
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

from lines import Lines

_LOOK = 0.005
"""Seconds between two looks at whether a call should stop."""


class Handling:
    """One worker's handler."""

    def __init__(self, lines: Lines, describe: Callable[[Any], dict[str, Any]]) -> None:
        self._lines = lines
        self._describe = describe
        """What a context tells: its id, and the trace headers as far as they can be seen."""
        self._name = os.environ["INTEROP_WORKER"]
        self._gates: dict[str, asyncio.Event] = {}
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.relay: Callable[[Any, Any], AsyncIterator[Any]] | None = None
        """Calls another endpoint within a request's context, where the worker can."""

    def open_gate(self, call: str) -> None:
        """Let a call that waits go on."""
        self._gate(call).set()

    def _gate(self, call: str) -> asyncio.Event:
        return self._gates.setdefault(call, asyncio.Event())

    async def generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """What is served.  A request that is no object is given back as it is."""
        if not isinstance(request, dict):
            yield request
            return
        call = request["call"]
        quiet = request.get("quiet", False)
        if not quiet:
            self._lines.say("began", call=call, **self._describe(context))
        self._running += 1
        self._idle.clear()
        try:
            async for item in getattr(self, f"_{request['do']}")(request, context):
                yield item
        except Exception:
            self._lines.say("failed", call=call)
            raise
        except BaseException as error:  # cancelled, or closed because nobody reads any more
            self._lines.say("cut", call=call, by=type(error).__name__, **_state(context))
            raise
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
        if not quiet:
            self._lines.say("stopped" if context.is_stopped() else "ended", call=call, **_state(context))

    async def idle(self) -> None:
        """Wait until no request runs."""
        await self._idle.wait()

    async def _count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """`n` items; before the one numbered `gate`, if there is one, it waits to be let through."""
        for i in range(request["n"]):
            if i == request.get("gate"):
                await self._gate(request["call"]).wait()
            if request.get("pause"):
                await asyncio.sleep(request["pause"])
            yield {"i": i, "call": request["call"], "worker": self._name}

    async def _values(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """What the request holds, one by one."""
        for value in request["values"]:
            yield value

    async def _fail(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """`n` items, then an exception."""
        async for item in self._count(request, context):
            yield item
        raise getattr(builtins, request["error"])(request["text"])

    async def _endless(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """One item after the other until it is stopped, as well-behaved handlers do."""
        i = 0
        while not context.is_stopped():
            yield {"i": i, "call": request["call"], "worker": self._name}
            i += 1
            await asyncio.sleep(_LOOK)

    async def _relayed(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """What another worker answers, called within this call's context."""
        assert self.relay is not None
        async for item in self.relay(request, context):
            yield item

    async def obey(self, leave: Callable[[], None]) -> None:
        """Do what is commanded; SIGTERM leaves in order."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave)
        async for command in self._lines.commands():
            if command["do"] == "open":
                self.open_gate(command["call"])
        os._exit(3)  # whoever started it is gone


def _state(context: Any) -> dict[str, bool]:
    return {"is_stopped": context.is_stopped(), "is_killed": context.is_killed()}
