"""The request of a bidirectional endpoint: what its caller sends, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Self


class PyAsyncRequestStream:
    """Its end only says that the caller sends no more: the answer may go on."""

    __slots__ = ("_items",)

    def __init__(self, items: AsyncIterator[Any]) -> None:
        self._items = items

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self._items.__anext__()
