"""What the clients of both sides do when they are told to: calls, one by one or many at once.

Of a call it tells `item` for each, then `whole`, or `error` with the exception's type, or `dropped`.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from lines import Lines

_LOOK = 0.05
"""Seconds between two looks at a load."""
_REST = 0.1
"""Seconds that a lane rests after a failure."""
_MOST_ERRORS = 20


@dataclass
class Call:
    """A call under way: its items, and how it is asked to stop."""

    items: AsyncIterator[Any]
    stop: Callable[[], None]


Open = Callable[..., Awaitable[Call]]
"""(path, request, instance=None, headers=None) → the call, sent."""
Known = Callable[[str], Awaitable[list[int]]]
"""The instances of an endpoint that the client knows."""


Unsent = Callable[[Exception], bool]
"""Whether an exception says that the request got to nobody, and may be sent again."""


class Asking:
    """Obeys commands, each in a task of its own."""

    def __init__(self, lines: Lines, open_call: Open, known: Known, unsent: Unsent) -> None:
        self._lines = lines
        self._open = open_call
        self._known = known
        self._unsent = unsent
        self._calls: dict[str, Call] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()

    async def obey(self) -> None:
        """Until whoever started it is gone, or it is told to leave."""
        async for command in self._lines.commands():
            do = command.pop("do")
            if do == "leave":
                return
            task = asyncio.create_task(getattr(self, f"_{do}")(**command))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            if do == "call":
                self._tasks[command["call"]] = task
        os._exit(3)

    async def _wait(self, path: str, n: int) -> None:
        """Until it knows exactly `n` instances of an endpoint."""
        while len(ids := await self._known(path)) != n:
            await asyncio.sleep(0.02)
        self._lines.say("known", path=path, ids=ids)

    async def _call(self, call: str, path: str, request: Any, **how: Any) -> None:
        """One call, from its request to its end."""
        items = 0
        if isinstance(request, dict):
            request["call"] = call
        try:
            self._calls[call] = opened = await self._open(path, request, **how)
            self._lines.say("sent", call=call)
            async for item in opened.items:
                self._lines.say("item", call=call, item=item)
                items += 1
        except asyncio.CancelledError:
            self._lines.say("dropped", call=call)
        except Exception as error:
            self._lines.say("error", call=call, items=items, **_told(error))
        else:
            self._lines.say("whole", call=call, items=items)
        finally:
            self._calls.pop(call, None)
            self._tasks.pop(call, None)

    async def _stop(self, call: str) -> None:
        """Ask a call to finish early; what it still gives is read."""
        self._calls[call].stop()

    async def _drop(self, call: str) -> None:
        """Let a call go unread."""
        self._tasks[call].cancel()

    # ── many at once ──

    async def _load(self, path: str, width: int, request: Any, seconds: float | None = None) -> None:
        """Keep `width` calls under way, for so long or until it is enough; then tell what became of all."""
        self._over.clear()
        load = _Load(path, {"quiet": True, **request}, self._open, self._unsent, self._over)
        lanes = [asyncio.create_task(load.lane(number)) for number in range(width)]
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, self._over.set)
        while len((await asyncio.wait(lanes, timeout=_LOOK))[1]):
            load.look(width)
            if load.at_width and not load.told:
                load.told = True
                self._lines.say("loading", under_way=load.under_way)
        self._lines.say("loaded", **load.summary())

    async def _enough(self) -> None:
        """End the load: what is under way goes on to its end, nothing new begins."""
        self._over.set()


class _Load:
    """Calls one after the other in several lanes, each answer checked."""

    def __init__(self, path: str, request: Any, open_call: Open, unsent: Unsent, over: asyncio.Event) -> None:
        self._path = path
        self._request = request
        self._open = open_call
        self._unsent = unsent
        self._over = over
        self._calls = self._whole = self._failed = self._again = 0
        self._least: int | None = None
        self._workers: Counter[str] = Counter()
        self._errors: list[dict[str, Any]] = []
        self.under_way = 0
        self.told = False

    @property
    def at_width(self) -> bool:
        """Whether as many were under way at once as should be."""
        return self._least is not None

    def look(self, width: int) -> None:
        """Note how many are under way, from the moment when all are until no more begin."""
        if self._least is None and self.under_way == width:
            self._least = width
        if self._least is not None and not self._over.is_set():
            self._least = min(self._least, self.under_way)

    def summary(self) -> dict[str, Any]:
        return {
            "calls": self._calls,
            "whole": self._whole,
            "failed": self._failed,
            "again": self._again,
            "errors": self._errors,
            "workers": dict(self._workers),
            "least": self._least,
        }

    async def lane(self, number: int) -> None:
        turn = 0
        while not self._over.is_set():
            await self._one(f"load-{os.getpid()}-{number}-{turn}")
            turn += 1

    async def _one(self, call: str) -> None:
        self._calls += 1
        self.under_way += 1
        try:
            worker = await self._answer(call)
        except Exception as error:
            self._failed += 1
            if len(self._errors) < _MOST_ERRORS:
                self._errors.append({"call": call, **_told(error)})
            await asyncio.sleep(_REST)  # a lane whose calls fail at once must not spin
        else:
            self._whole += 1
            self._workers[worker] += 1
        finally:
            self.under_way -= 1

    async def _answer(self, call: str) -> str:
        """The worker that gave the whole answer; sent again where the client says that nobody had it."""
        while True:
            items: list[Any] = []
            try:
                opened = await self._open(self._path, {"call": call, **self._request})
                async for item in opened.items:
                    items.append(item)
            except Exception as error:
                if items or not self._unsent(error):
                    raise
                self._again += 1
                continue
            wanted = [(i, call) for i in range(self._request["n"])]
            if [(item["i"], item["call"]) for item in items] != wanted:
                raise AssertionError(f"it looked whole, but had {len(items)} of {len(wanted)} items")
            return items[-1]["worker"]


def _told(error: BaseException) -> dict[str, Any]:
    """An exception as a caller sees it: its type, the types that `except` may name, and its text."""
    lineage = [cls.__name__ for cls in type(error).__mro__[:-2]]
    return {"type": type(error).__name__, "lineage": lineage, "text": str(error)[:2000]}
