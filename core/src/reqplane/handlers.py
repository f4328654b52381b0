"""What users may serve: an async generator, a coroutine, or a generator that runs in a thread.

Each becomes one form, `(request, context) -> async iterator of items`, when it is served; nothing about
its kind is asked again for a request.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from reqplane.context import Context

Handler = Callable[[Any, Context], AsyncIterator[Any]]

_MAX_THREADS = 64
"""Generators of one endpoint that may run at once, each in a thread; more wait for a free one."""


def adapt(function: Callable[..., Any]) -> Handler:
    """The one form of a handler; TypeError if it is none of the three kinds."""
    call = _called(function)
    with_context = _wants_context(call)
    if inspect.isasyncgenfunction(call):
        return function if with_context else functools.partial(_without_context, function)
    if inspect.iscoroutinefunction(call):
        return functools.partial(_one_item, function, with_context)
    if inspect.isgeneratorfunction(call):
        return functools.partial(_in_thread, function, with_context, _threads())
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


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="reqplane-handler")


def _arguments(with_context: bool, request: Any, context: Context) -> tuple[Any, ...]:
    return (request, context) if with_context else (request,)


async def _one_item(
    function: Callable[..., Any], with_context: bool, request: Any, context: Context
) -> AsyncIterator[Any]:
    yield await function(*_arguments(with_context, request, context))


async def _in_thread(
    function: Callable[..., Any],
    with_context: bool,
    threads: ThreadPoolExecutor,
    request: Any,
    context: Context,
) -> AsyncIterator[Any]:
    """Run a generator item by item in a thread, so that it may block.

    Leaving waits for the item under way: a generator can't be closed while it runs.
    """
    loop = asyncio.get_running_loop()
    items: Iterator[Any] = iter(function(*_arguments(with_context, request, context)))
    end = object()
    step: asyncio.Future[Any] | None = None
    try:
        while True:
            step = loop.run_in_executor(threads, next, items, end)
            item = await asyncio.shield(step)
            if item is end:
                return
            yield item
    finally:
        if step is not None and not step.done():
            await asyncio.wait([step])
        if step is not None and not step.cancelled():
            step.exception()
        close = getattr(items, "close", None)
        if close is not None:
            await loop.run_in_executor(threads, close)
