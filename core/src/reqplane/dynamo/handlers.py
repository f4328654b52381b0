"""From a Dynamo program's handler to one that Reqplane serves.

Dynamo's handlers are told of a stop or a kill by their context only, never by a CancelledError.  The answer
has ended by then, and they run on to their next item, which nobody gets any more, and a little further.  Here
they are closed at the next but one, so that one that looks at its context after each item sees it in time.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

from reqplane.context import Context as OwnContext
from reqplane.dynamo.context import Context
from reqplane.dynamo.request_stream import PyAsyncRequestStream

Served = Callable[[Any, OwnContext], AsyncIterator[Any]]


def adapt(handler: Callable[..., Any], *, streamed: bool = False) -> Served:
    """`handler(request)`, or with a parameter named `context`, by which it gets its Context.

    It is an async generator function, or anything that gives an async iterator when it is called.  TypeError
    if it can't be.  `streamed`: its request is a stream.
    """
    takes_context = _takes_context(handler)

    async def serve(request: Any, own: OwnContext) -> AsyncIterator[Any]:
        if streamed:
            request = PyAsyncRequestStream(request, own)
        items = handler(request, context=Context.of(own)) if takes_context else handler(request)
        if not hasattr(items, "__anext__"):
            raise AttributeError(f"'{type(items).__name__}' object has no attribute '__anext__'")
        stopped, last = own.is_stopped, False
        try:
            async for item in items:
                if not stopped():
                    yield item
                elif last:
                    return
                else:
                    last = True
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    return serve


def _takes_context(handler: object) -> bool:
    if not callable(handler):
        raise TypeError(f"a handler is wanted, this is {handler!r:.100}")
    call = handler if inspect.isroutine(handler) else getattr(handler, "__call__", handler)  # noqa: B004
    if inspect.iscoroutinefunction(call) or inspect.isgeneratorfunction(call):
        raise TypeError(
            f"{handler!r:.100} can't be served: wanted an async generator function, with `yield`; for a "
            f"single answer there is reqplane.dynamo.serve_unary_endpoint"
        )
    try:
        signature = inspect.signature(handler)
    except ValueError:  # some built-in functions don't tell
        return False
    takes_context = "context" in signature.parameters
    try:
        signature.bind("request", **({"context": None} if takes_context else {}))
    except TypeError:
        raise TypeError(
            f"a handler takes (request), or (request, context) under this name; this one takes {signature}"
        ) from None
    return takes_context
