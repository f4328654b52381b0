"""A request that is itself a stream, as its handler reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Self

from reqplane.context import Context
from reqplane.errors import PayloadError, RequestBroken
from reqplane.fairness import BURST, ITEM_COST
from reqplane.interfaces import HomeStream
from reqplane.model import Body, Broken, End, Part


class RequestStream:
    """The items of a request: `async for item in request_stream`.

    It ends when the caller's items have.  RequestBroken: the rest does not come, because the caller is gone
    or wants the answer to finish early (`context.is_stopped()`); a request that broke off never looks whole.
    PayloadError: this item can't be decoded, the next one may be.

    The caller sends no faster than this is read, and what is left unread when the handler ends is dropped.
    """

    __slots__ = (
        "_batch",
        "_budget",
        "_context",
        "_decode",
        "_home",
        "_last",
        "_reading",
        "_told",
        "items_received",
        "undecodable",
    )

    def __init__(self, home: HomeStream, decode: Callable[[Body], Any], context: Context) -> None:
        self.items_received = 0
        self.undecodable: PayloadError | None = None
        """What was raised last for an item that can't be decoded."""
        self._home = home
        self._decode = decode
        self._context = context
        self._batch: Iterator[Part] = iter(())
        self._last: Part | None = None
        self._budget = BURST
        self._reading = False
        self._told = False  # that the caller is gone

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._budget <= 0:
            self._budget = BURST
            await asyncio.sleep(0)
        while self._last is None:
            for part in self._batch:
                if isinstance(part, bytes | bytearray):
                    return self._item(part)
                if isinstance(part, End | Broken):
                    self._last = part
            if self._last is None:
                self._batch = iter(await self._receive())
        if isinstance(self._last, Broken):
            await self._check_wanted()
            raise RequestBroken(self._last.reason, items_received=self.items_received)
        raise StopAsyncIteration

    def _item(self, body: bytes | bytearray) -> Any:
        self._budget -= len(body) + ITEM_COST
        index = self.items_received
        self.items_received += 1
        try:
            return self._decode(body)
        except PayloadError as error:
            error.index, error.in_request = index, True
            self.undecodable = error
            raise

    async def _receive(self) -> list[Part]:
        if self._reading:
            raise RuntimeError("another task is reading this request")
        self._reading = True
        try:
            return await self._home.receive()
        except asyncio.CancelledError:
            if self._context.is_killed() and not self._told:
                self._told = True
                problem = "the caller is gone, or its deadline has passed"
                raise RequestBroken(problem, items_received=self.items_received) from None
            raise
        finally:
            self._reading = False

    async def _check_wanted(self) -> None:
        """A handler that was cancelled, since nobody is there, and goes on reading is ended by that."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            if self._told:
                raise asyncio.CancelledError
            self._told = True
        await asyncio.sleep(0)
