"""Calls to one endpoint."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NoReturn

from reqplane.client import Client as OwnClient
from reqplane.dynamo.answer import Answer
from reqplane.dynamo.context import Context
from reqplane.dynamo.exceptions import before_the_stream
from reqplane.dynamo.instance import Instance, seen
from reqplane.dynamo.unsupported import not_supported
from reqplane.errors import ReqplaneError
from reqplane.stream import Stream

Spawn = Callable[[Coroutine[Any, Any, object]], None]


class Client:
    """Made by `Endpoint.client`.

    A call's Future is done when a worker has the request; its result is an async iterator of `Annotated`
    items, or with `annotated` False or None of their data.  `reqplane.dynamo.exceptions` has what it raises.
    """

    def __init__(self, own: OwnClient, spawn: Spawn) -> None:
        self._own = own
        self._spawn = spawn

    def random(
        self, request: Any, annotated: bool | None = True, context: Context | None = None
    ) -> asyncio.Future[AsyncIterator[Any]]:
        own = _own(annotated, context)
        return self._sent(
            self._own.random(request, context=own, annotated=bool(annotated)), annotated, context
        )

    def round_robin(
        self, request: Any, annotated: bool | None = True, context: Context | None = None
    ) -> asyncio.Future[AsyncIterator[Any]]:
        own = _own(annotated, context)
        stream = self._own.round_robin(request, context=own, annotated=bool(annotated))
        return self._sent(stream, annotated, context)

    def direct(
        self,
        request: Any,
        instance_id: int,
        annotated: bool | None = True,
        context: Context | None = None,
    ) -> asyncio.Future[AsyncIterator[Any]]:
        own = _own(annotated, context)
        stream = self._own.direct(request, _number(instance_id), context=own, annotated=bool(annotated))
        return self._sent(stream, annotated, context)

    def generate(
        self, request: Any, annotated: bool | None = True, context: Context | None = None
    ) -> asyncio.Future[AsyncIterator[Any]]:
        """By the client's router mode."""
        own = _own(annotated, context)
        stream = self._own.generate(request, context=own, annotated=bool(annotated))
        return self._sent(stream, annotated, context)

    def device_aware_weighted(
        self, request: Any, annotated: bool | None = True, context: Context | None = None
    ) -> NoReturn:
        not_supported("device_aware_weighted()", "use generate() with another router mode")

    def _sent(
        self, stream: Stream, annotated: bool | None, context: Context | None
    ) -> asyncio.Future[AsyncIterator[Any]]:
        return asyncio.ensure_future(self._send(stream, annotated, context))

    async def _send(
        self, stream: Stream, annotated: bool | None, context: Context | None
    ) -> AsyncIterator[Any]:
        try:
            await stream
        except ReqplaneError as error:
            raise before_the_stream(error) from error
        return Answer(stream, bool(annotated), context, self._spawn)

    # ── who there is ──

    def instance_ids(self) -> list[int]:
        return self._own.instance_ids()

    def instances(self) -> list[Instance]:
        return [seen(instance) for instance in self._own.instances()]

    def wait_for_instances(self) -> asyncio.Future[list[int]]:
        """Done when there is a worker."""
        return asyncio.ensure_future(self._own.wait_for_instances())

    def wait_for_instance_by_runtime_data(
        self, key: str, value: str, timeout_s: float | None = None
    ) -> NoReturn:
        not_supported("wait_for_instance_by_runtime_data()", _NO_CARDS)

    def wait_for_instances_by_runtime_data(
        self, key: str, value: str, min_count: int, timeout_s: float | None = None
    ) -> NoReturn:
        not_supported("wait_for_instances_by_runtime_data()", _NO_CARDS)


_NO_CARDS = "workers have no model cards here; give each kind of worker an endpoint of its own"


def _number(instance_id: Any) -> int:
    """An id of 64 bits.  TypeError or OverflowError in Dynamo's words."""
    try:
        number = operator.index(instance_id)
    except TypeError as error:
        raise TypeError(f"argument 'instance_id': {error}") from None
    if number < 0:
        raise OverflowError("can't convert negative int to unsigned")
    if number >= 2**64:
        raise OverflowError("int too big to convert")
    return number


def _own(annotated: object, context: object) -> Any:
    """The context in Reqplane's form.  TypeError in Dynamo's words for anything but what it takes."""
    if annotated is not None and not isinstance(annotated, bool):
        name = type(annotated).__name__
        raise TypeError(f"argument 'annotated': '{name}' object cannot be converted to 'PyBool'")
    if context is None:
        return None
    if not isinstance(context, Context):
        name = type(context).__name__
        raise TypeError(f"argument 'context': '{name}' object cannot be converted to 'Context'")
    return context.own
