"""`@dynamo_worker()` and `@dynamo_endpoint(…)`."""

from __future__ import annotations

import asyncio
import functools
import json
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from reqplane.dynamo.environment import default_planes
from reqplane.dynamo.runtime import DistributedRuntime

_Main = Callable[..., Awaitable[None]]
_Handler = Callable[..., AsyncGenerator[Any, None]]


def dynamo_worker(
    enable_nats: bool | None = None, *, static: bool = False
) -> Callable[[_Main], Callable[..., Awaitable[None]]]:
    """Give the function a runtime as its first argument, as DYN_REQUEST_PLANE (default: tcp) and
    DYN_DISCOVERY_BACKEND (default: etcd) say.

    When it returns, the runtime is shut down and what it has opened closed.  `enable_nats` has no effect, and
    warns, as in Dynamo.  `static` is of Dynamo up to 0.7, where only False had workers found by discovery.
    """
    if enable_nats is not None:
        text = "The 'enable_nats' parameter is deprecated and has no effect: remove it."
        warnings.warn(text, DeprecationWarning, stacklevel=2)
    if static:
        raise NotImplementedError(
            "static=True is not supported: leave it out, and discovery finds the workers"
        )

    def decorate(function: _Main) -> Callable[..., Awaitable[None]]:
        @functools.wraps(function)
        async def worker(*args: Any, **kwargs: Any) -> None:
            discovery, plane = default_planes()
            runtime = DistributedRuntime(asyncio.get_running_loop(), discovery, plane)
            try:
                await function(runtime, *args, **kwargs)
            finally:
                await runtime.closed()

        return worker

    return decorate


def dynamo_endpoint(request_model: type[Any], response_model: type[Any]) -> Callable[[_Handler], _Handler]:
    """Have a handler's request checked and made a `request_model`, a class of pydantic's, before it runs.

    That is done to the last of one or two positional arguments, `(request)` or `(self, request)`: a text is
    parsed as JSON, a dict is validated; anything else is a ValueError, as is a request that is not valid.
    Any other call, and any other class, is let through as it is.  `response_model` is not looked at.
    """

    def decorate(function: _Handler) -> _Handler:
        @functools.wraps(function)
        async def handler(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
            if len(args) in (1, 2) and hasattr(request_model, "model_validate"):
                args = (*args[:-1], _parsed(request_model, args[-1]))
            async for item in function(*args, **kwargs):
                yield item

        return handler

    return decorate


def _parsed(model: type[Any], request: Any) -> Any:
    if not isinstance(request, str | dict):
        raise ValueError(f"Invalid request: {request}")
    try:
        return model.model_validate(json.loads(request) if isinstance(request, str) else request)
    except ValueError as error:  # both json's and pydantic's
        raise ValueError(f"Invalid request: {error}") from error
