"""What users may serve: an async generator, a coroutine, or a generator that runs in a thread.

Each becomes one form, `(request, context) -> async iterator of items`, when it is served; nothing about
its kind is asked again for a request.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, cast

from reqplane.context import Context

Handler = Callable[[Any, Context], AsyncIterator[Any]]

_MAX_THREADS = 64
"""Generators of one endpoint that may run at once, each in a thread; more wait for a free one."""
_AHEAD = 16
"""Items that a generator may be ahead of what was sent."""


def adapt(function: Callable[..., Any], *, streamed: bool = False) -> Handler:
    """The one form of a handler; TypeError if it is none of the three kinds.

    `streamed`: its request is a stream, which a generator in a thread could not read.
    """
    call = _called(function)
    with_context = _wants_context(call)
    if inspect.isasyncgenfunction(call):
        return function if with_context else functools.partial(_without_context, function)
    if inspect.iscoroutinefunction(call):
        return functools.partial(_one_item, function, with_context)
    if streamed:
        raise TypeError(
            f"{function!r} can't be served for requests that are streams: wanted an async generator function "
            f"or a coroutine function (one item)"
        )
    if inspect.isgeneratorfunction(call):
        return functools.partial(_in_thread, function, with_context, asyncio.Semaphore(_MAX_THREADS))
    raise TypeError(
        f"{function!r} can't be served: wanted an async generator function, a coroutine function (one item) "
        f"or a generator function (runs in a thread)"
    )


def _called(function: Any) -> Callable[..., Any]:
    """What runs when it is called: of an object with `__call__`, that method."""
    if inspect.isroutine(function) or isinstance(function, functools.partial):
        return cast("Callable[..., Any]", function)
    return getattr(function, "__call__", function)  # noqa: B004


def _without_context(function: Callable[..., Any], request: Any, context: Context) -> AsyncIterator[Any]:
    return function(request)


def _wants_context(call: Callable[..., Any]) -> bool:
    """Whether it takes (request, context) or only (request)."""
    signature = inspect.signature(call)
    for with_context, arguments in ((True, ("request", "context")), (False, ("request",))):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return with_context
    raise TypeError(f"a handler takes (request) or (request, context), this one takes {signature}")


def _arguments(with_context: bool, request: Any, context: Context) -> tuple[Any, ...]:
    return (request, context) if with_context else (request,)


async def _one_item(
    function: Callable[..., Any], with_context: bool, request: Any, context: Context
) -> AsyncIterator[Any]:
    yield await function(*_arguments(with_context, request, context))


async def _in_thread(
    function: Callable[..., Any],
    with_context: bool,
    slots: asyncio.Semaphore,
    request: Any,
    context: Context,
) -> AsyncIterator[Any]:
    """Run a generator in a thread of its own, so that it may block."""
    await slots.acquire()
    try:
        pump = _Pump(function(*_arguments(with_context, request, context)), slots.release)
        run = contextvars.copy_context().run
        # A daemon: a generator that blocks for ever must not keep the process from leaving.
        threading.Thread(target=run, args=(pump.run,), name="reqplane handler", daemon=True).start()
    except BaseException:
        slots.release()
        raise
    try:
        while (item := await pump.next()) is not _END:
            yield item
    finally:
        pump.leave()


class _Pump:
    """Takes items out of a generator in one thread and hands them to the event loop, a few ahead.

    `ended` is called on the loop when the thread has ended, which may be long after nobody wants more.
    """

    def __init__(self, items: Generator[Any, None, Any], ended: Callable[[], None]) -> None:
        self._items = items
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._room = threading.Semaphore(_AHEAD)
        self._left = False
        self._ready: deque[Any] = deque()
        self._waiter: asyncio.Future[None] | None = None

    # ── the event loop's side ──

    async def next(self) -> Any:
        """The next item, or _END; raises what the generator raised."""
        while not self._ready:
            self._waiter = self._loop.create_future()
            await self._waiter
        item = self._ready.popleft()
        self._room.release()
        if isinstance(item, _Raised):
            raise item.error
        return item

    def leave(self) -> None:
        """Nobody wants more; the generator is closed as soon as it has yielded once more."""
        self._left = True
        self._room.release(_AHEAD)  # whatever the thread waits for, it goes on and sees this

    def _came(self, item: Any) -> None:
        self._ready.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ── the thread's side ──

    def run(self) -> None:
        """Until the generator ends, or nobody wants more."""
        try:
            try:
                self._run()
            finally:
                self._loop.call_soon_threadsafe(self._ended)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _run(self) -> None:
        try:
            for item in self._items:
                self._hand_over(item)
                if self._left:
                    self._items.close()
                    return
        except Exception as error:
            self._hand_over(_Raised(error))
        except BaseException as error:  # it ends this thread's generator, not the event loop
            failure = RuntimeError(f"the generator raised {error!r}")
            failure.__cause__ = error
            self._hand_over(_Raised(failure))
        else:
            self._hand_over(_END)

    def _hand_over(self, item: Any) -> None:
        self._loop.call_soon_threadsafe(self._came, item)
        self._room.acquire()


class _Raised:
    """What a generator raised, on its way to the event loop."""

    def __init__(self, error: Exception) -> None:
        self.error = error


_END: Any = object()
