"""A request that is itself a stream, on its way out: the caller's items, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine
from typing import Any, Protocol

from reqplane.errors import FrameTooLarge, PayloadError, RequestBroken
from reqplane.fairness import BURST, ITEM_COST
from reqplane.interfaces import PendingStream


class Spawn(Protocol):
    """How tasks are started that end when the runtime does (`interfaces.Host.spawn`)."""

    def __call__(self, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[Any]: ...


class Pump:
    """Sends what the caller's iterable yields, at the pace of the handler that reads it.

    Nothing is asked of the iterable before `start`, when a worker has opened its stream: until then another
    worker may get the request.  `failed` is called with what the iterable raised, or with what else keeps
    the request from being whole.
    """

    __slots__ = ("_encode", "_failed", "_items", "_pending", "_sent", "_spawn", "_stopped", "_task")

    def __init__(
        self,
        items: AsyncIterable[Any],
        pending: PendingStream,
        encode: Callable[[Any], bytes],
        spawn: Spawn,
        failed: Callable[[Exception], None],
    ) -> None:
        self._items = items
        self._pending = pending
        self._encode = encode
        self._spawn = spawn
        self._failed = failed
        self._sent = 0
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; once."""
        if self._task is None and not self._stopped:
            self._task = self._spawn(self._run(), "sends a request that is a stream")

    def stop(self) -> None:
        """No more is wanted; the iterable is closed."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._send()
        except Exception as error:
            self._failed(error)
        except BaseException as error:
            if not self._stopped:
                problem = f"the iterable of its items raised {type(error).__name__}"
                self._failed(RequestBroken(problem, items_received=self._sent))
            if not isinstance(error, asyncio.CancelledError):
                raise

    async def _send(self) -> None:
        pending = self._pending
        if not await pending.ready():
            return
        items = aiter(self._items)
        budget = BURST
        try:
            while True:
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    break
                size, more = self._write(item)
                self._sent += 1
                if not more and not await pending.ready():
                    return
                budget -= size + ITEM_COST
                if budget <= 0:
                    await asyncio.sleep(0)
                    budget = BURST
            pending.end()
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    def _write(self, item: Any) -> tuple[int, bool]:
        """Send one item: its size, and whether the next one may follow at once."""
        try:
            body = self._encode(item)
            return len(body), self._pending.write(body)
        except PayloadError as error:
            error.index, error.in_request = self._sent, True
            raise
        except FrameTooLarge as error:
            raise PayloadError(error.summary(), index=self._sent, in_request=True) from error
