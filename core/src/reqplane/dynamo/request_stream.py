"""The request of a bidirectional endpoint: what its caller sends, one item after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Self

from reqplane.context import Context as OwnContext
from reqplane.errors import PayloadError, RequestBroken


class PyAsyncRequestStream:
    """Its end says that nothing more comes.

    Whether the caller is through, or is gone or was stopped, a handler sees by its context, as with Dynamo:
    where the rest could not come or not be read, the context is stopped or killed by then.
    """

    __slots__ = ("_items", "_own")

    def __init__(self, items: AsyncIterator[Any], own: OwnContext) -> None:
        self._items = items
        self._own = own

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._items.__anext__()
        except (RequestBroken, PayloadError):
            if not self._own.is_stopped():
                self._own.kill()
            raise StopAsyncIteration from None
