"""A call's answer, item by item.

Where its context is stopped, Dynamo's caller gets what has come by then and is at the end, whatever the
worker still does; and so it is here.  The rest is read and forgotten, so that the worker is not killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

from reqplane.dynamo.annotated import Annotated
from reqplane.dynamo.context import Context
from reqplane.dynamo.exceptions import in_the_stream
from reqplane.errors import ReqplaneError
from reqplane.model import Control
from reqplane.stream import Stream


class Answer:
    """What the Future of a call gives.  Dropping it unread kills the call."""

    __slots__ = ("__weakref__", "_annotated", "_context", "_items", "_over", "_spawn", "_stream", "_waiting")

    def __init__(
        self,
        stream: Stream,
        annotated: bool,
        context: Context | None,
        spawn: Callable[[Coroutine[Any, Any, object]], None],
    ) -> None:
        self._stream = stream
        self._annotated = annotated
        self._context = context
        self._spawn = spawn
        self._items: AsyncGenerator[Any, None] = aiter(stream)
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._over:
            raise StopAsyncIteration
        try:
            return await (self._next() if self._context is None else self._next_unless_stopped(self._context))
        except asyncio.CancelledError:
            self._items = aiter(self._stream)  # the other has ended by this, the answer has not
            raise
        except ReqplaneError as error:
            self._over = True
            raise in_the_stream(error) from error
        except StopAsyncIteration:
            self._over = True
            raise

    async def _next(self) -> Any:
        if self._annotated:
            item = await anext(self._items)
            return Annotated(item.members)
        while (item := await anext(self._items)) is None:  # to Dynamo that is an item without data
            pass
        return item

    async def _next_unless_stopped(self, context: Context) -> Any:
        waiting = _Waiting()
        context.own.follow(waiting.stop)
        try:
            return await self._next()
        except asyncio.CancelledError:
            if not waiting.stopped_only():
                raise
            self._items = aiter(self._stream)
            self._spawn(_read_on(self._stream))
            raise StopAsyncIteration from None
        finally:
            context.own.unfollow(waiting.stop)
            waiting.over()


class _Waiting:
    """A task that waits for an item, and is woken when the context is stopped, as `asyncio.timeout` does."""

    __slots__ = ("_cancelling", "_handle", "_task", "_woken")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._cancelling = 0 if self._task is None else self._task.cancelling()
        self._handle: asyncio.Handle | None = None
        self._woken = False

    def stop(self, control: Control) -> None:
        """What has come already is still given out: so not at once."""
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        if self._task is not None:
            self._woken = True
            self._task.cancel()

    def stopped_only(self) -> bool:
        """Whether this and nobody else has cancelled the task."""
        return self._woken and self._task is not None and self._task.uncancel() <= self._cancelling

    def over(self) -> None:
        self._task = None
        if self._handle is not None:
            self._handle.cancel()


async def _read_on(stream: Stream) -> None:
    with suppress(ReqplaneError):
        async for _ in stream:
            pass
