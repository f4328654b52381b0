"""What the clients of both sides do when they are told to: calls, one by one or many at once.

Of a call it tells `item` for each, then `whole`, or `error` with the exception's type, or `dropped`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from lines import Lines

_TELL = 0.2
"""Seconds between two reports of a load."""
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


class Asking:
    """Obeys commands, each in a task of its own."""

    def __init__(self, lines: Lines, open_call: Open, known: Known) -> None:
        self._lines = lines
        self._open = open_call
        self._known = known
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
        try:
            self._calls[call] = opened = await self._open(path, {"call": call, **request}, **how)
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
        until = time.monotonic() + seconds if seconds is not None else float("inf")
        load = _Load(path, request, self._open, lambda: self._over.is_set() or time.monotonic() > until)
        lanes = [asyncio.create_task(load.lane(number)) for number in range(width)]
        while not all(lane.done() for lane in lanes):
            await asyncio.wait(lanes, timeout=_TELL)
            self._lines.say("loading", under_way=load.under_way, whole=load.whole)
        self._lines.say(
            "loaded",
            calls=load.calls,
            whole=load.whole,
            workers=dict(load.workers),
            failed=load.failed,
            errors=load.errors,
        )

    async def _enough(self) -> None:
        """End the load: what is under way goes on to its end, nothing new begins."""
        self._over.set()


class _Load:
    """Calls one after the other in several lanes, each answer checked."""

    def __init__(self, path: str, request: Any, open_call: Open, over: Callable[[], bool]) -> None:
        self._path = path
        self._request = request
        self._open = open_call
        self._over = over
        self.calls = self.whole = self.failed = self.under_way = 0
        self.workers: Counter[str] = Counter()
        self.errors: list[dict[str, Any]] = []

    async def lane(self, number: int) -> None:
        turn = 0
        while not self._over():
            await self._one(f"load-{os.getpid()}-{number}-{turn}")
            turn += 1

    async def _one(self, call: str) -> None:
        self.calls += 1
        self.under_way += 1
        items: list[Any] = []
        try:
            opened = await self._open(self._path, {"call": call, **self._request})
            async for item in opened.items:
                items.append(item)
            wanted = [(i, call) for i in range(self._request["n"])]
            if [(item["i"], item["call"]) for item in items] != wanted:
                raise AssertionError(f"looked whole, but had {len(items)} of {len(wanted)} items")
        except Exception as error:
            self.failed += 1
            if len(self.errors) < _MOST_ERRORS:
                self.errors.append({"call": call, "items": len(items), **_told(error)})
        else:
            self.whole += 1
            self.workers[items[-1]["worker"]] += 1
        finally:
            self.under_way -= 1


def _told(error: BaseException) -> dict[str, Any]:
    """An exception as a caller sees it: its type, the types that `except` may name, and its text."""
    lineage = [cls.__name__ for cls in type(error).__mro__[:-2]]
    return {"type": type(error).__name__, "lineage": lineage, "text": str(error)[:2000]}
