"""One answer a request, for those who have no streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol

from reqplane.dynamo.context import Context


class _Client(Protocol):
    def round_robin(
        self, request: Any, *, annotated: bool, context: Context | None = None
    ) -> Awaitable[AsyncIterator[Any]]: ...


class _Endpoint(Protocol):
    def serve_endpoint(self, generator: Any, /) -> Awaitable[None]: ...


class _Handler(Protocol):
    async def __call__(self, request: Any, *, context: Context) -> Any: ...


class UnaryClient:
    """Calls workers by turns, each for exactly one item."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    async def complete(self, request: Any, *, context: Context | None = None) -> Any:
        """The answer.  RuntimeError if the worker sent none, or more than one."""
        items = await self._client.round_robin(request, annotated=False, context=context)
        answer = await anext(items, _NOTHING)
        if answer is _NOTHING:
            raise RuntimeError("unary endpoint returned no response")
        if await anext(items, _NOTHING) is not _NOTHING:
            raise RuntimeError("unary endpoint returned multiple responses")
        return answer


async def serve_unary_endpoint(endpoint: _Endpoint, handler: _Handler) -> None:
    """Serve a coroutine function: what it returns is the answer."""

    async def generate(request: Any, *, context: Context) -> AsyncIterator[Any]:
        yield await handler(request, context=context)

    await endpoint.serve_endpoint(generate)


_NOTHING: Any = object()
