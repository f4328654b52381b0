"""One endpoint served on several planes under one registration, from its number to its last answer.

Coming: reserve a number ─► listen on every plane ─► merge the planes' records ─► publish, once.
Leaving: withdraw ─► refuse what is new ─► drain the planes ─► running handlers end ─► close.
In Dynamo's form what its clients send is refused a second later: by then they know.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from reqplane.endpoint import Answering, ServedEndpoint
from reqplane.errors import DiscoveryError, LeaseLost, SettingsError, WireError, describe
from reqplane.handlers import Handler
from reqplane.interfaces import Discovery, Listener, Registration, RequestTransport
from reqplane.model import EndpointId, Served
from reqplane.wire.records import as_dynamo, make_record

T = TypeVar("T")

log = logging.getLogger("reqplane")

_FORMER_ID_SECONDS = 60.0
"""How long a number that a lost registration had is still this worker's."""
_WITHDRAW_LIMIT = 5.0
"""Seconds that discovery may take for that; the record then goes with its lease."""
_LAST_CALL = 1.0
"""Seconds in which Dynamo's frontends hear that a worker leaves; it takes what they send meanwhile."""
_RENEW_PAUSE = 0.5
"""Seconds between attempts to register again."""


@dataclass(frozen=True, slots=True)
class Planes:
    """Where an endpoint is served and registered; `dynamo`: in Dynamo's form (`interfaces.Host.dynamo`)."""

    transports: Sequence[RequestTransport[Any]]
    discovery: Discovery
    codec: str
    drain_timeout: float
    dynamo: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many requests of an endpoint run at once, and how many more may wait; None = no bound.

    TypeError or ValueError if they are no such numbers.
    """

    max_concurrent: int | None = None
    max_queued: int | None = None

    def __post_init__(self) -> None:
        _check_count("max_concurrent", self.max_concurrent, 1)
        _check_count("max_queued", self.max_queued, 0)
        if self.max_queued is not None and self.max_concurrent is None:
            raise ValueError("max_queued wants max_concurrent beside it: without it no request waits")


def _check_count(name: str, value: object, least: int) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r:.60}, wanted a whole number or None")
    if value < least:
        raise ValueError(f"{name} is {value}, wanted at least {least}")


class Serving:
    """One endpoint, while it is served."""

    def __init__(
        self,
        endpoint: EndpointId,
        handler: Handler,
        planes: Planes,
        answering: Answering,
        bounds: Bounds | None = None,
        *,
        hands_off: bool = False,
        streamed: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self._planes = planes
        self._answering = answering
        bounds = bounds or Bounds()
        self._work = answering.workload.endpoint(str(endpoint), bounds.max_concurrent, bounds.max_queued)
        self._accepting = ServedEndpoint(
            endpoint, handler, answering, self._work, hands_off=hands_off, streamed=streamed
        )
        self._listeners: list[Listener] = []
        self._started = round(time.time(), 3)

    async def run(self, leaving: asyncio.Event) -> None:
        """Serve until `leaving` is set, then leave in order.

        TimeoutError if handlers still ran when the drain time was over; they were cancelled.
        """
        async with AsyncExitStack() as stack:
            stack.callback(self._answering.workload.forget, self._work)
            stack.push_async_callback(self._cancel_handlers)
            left = asyncio.ensure_future(leaving.wait())
            stack.callback(left.cancel)
            registration = await _unless(left, self._come(stack))
            if registration is not None:
                self._say_hello(registration)
                await self._stay(registration, left)
                await self._leave(registration)

    async def _come(self, stack: AsyncExitStack) -> Registration:
        """Everything up to the record, which tells others; what it takes the stack gives back."""
        planes = self._planes
        registration = await planes.discovery.reserve(self.endpoint, self._answering.incarnation)
        stack.push_async_callback(self._withdraw, registration)
        self._accepting.instance_ids.add(registration.instance_id)
        for transport in planes.transports:
            listener = await transport.listen(self._served(registration), self._accepting.accept)
            stack.push_async_callback(listener.close)
            self._listeners.append(listener)
        with suppress(LeaseLost):  # while the planes began to listen, perhaps: it is taken again, see `_stay`
            await registration.publish(self._record(registration))
        return registration

    def _served(self, registration: Registration) -> Served:
        answering = self._answering
        return Served(
            self.endpoint,
            answering.incarnation,
            registration.instance_id,
            answering.response.advertised,
            alone=len(self._planes.transports) == 1,
        )

    def _record(self, registration: Registration) -> Mapping[str, Any]:
        members: dict[str, Any] = {}
        for listener in self._listeners:
            members.update(listener.record(registration.instance_id))
        record = make_record(
            self.endpoint,
            registration.instance_id,
            self._answering.incarnation,
            members,
            self._planes.codec,
            [transport.name for transport in self._planes.transports],
            self._work.capacity,
            version=_version(),
            started=self._started,
        )
        if not self._planes.dynamo:
            return record
        try:
            return as_dynamo(record)
        except WireError as error:
            raise SettingsError([("DYN_WIRE_PROFILE", "dynamo", error.problem)]) from None

    def _say_hello(self, registration: Registration) -> None:
        record = self._record(registration)
        log.info(
            "serving %s as instance %d on %s, found by %s%s, at %s",
            self.endpoint,
            registration.instance_id,
            ",".join(transport.name for transport in self._planes.transports),
            self._planes.discovery.name,
            f" (Dynamo: {', '.join(record['transport'])})" if self._planes.dynamo else "",
            _addresses(record.get("transports", record["transport"])),
        )

    # ── staying ──

    async def _stay(self, registration: Registration, left: asyncio.Future[Any]) -> None:
        """Wait for the end, and register again whenever the registration is lost."""
        while not left.done():
            await asyncio.wait([left, registration.lost], return_when=asyncio.FIRST_COMPLETED)
            if not left.done():
                await self._register_again(registration, left)

    async def _register_again(self, registration: Registration, left: asyncio.Future[Any]) -> None:
        former = registration.instance_id
        log.warning("%s lost its registration as instance %d, registering again", self.endpoint, former)
        while not left.done():
            try:
                await _unless(left, self._renew(registration))
            except DiscoveryError as error:
                log.warning("%s is not registered: %s", self.endpoint, error)
                await asyncio.wait([left], timeout=_RENEW_PAUSE)
                continue
            break
        if registration.instance_id != former:
            when = asyncio.get_running_loop().time() + _FORMER_ID_SECONDS
            self._answering.timers.at(when, lambda: self._forget_number(registration, former))

    def _forget_number(self, registration: Registration, former: int) -> None:
        if registration.instance_id != former:  # it may have got it back
            self._accepting.instance_ids.discard(former)

    async def _renew(self, registration: Registration) -> None:
        await registration.renew()
        self._accepting.instance_ids.add(registration.instance_id)
        await registration.publish(self._record(registration))

    # ── leaving ──

    async def _leave(self, registration: Registration) -> None:
        planes = self._planes
        log.info("%s leaves, %d requests are running", self.endpoint, len(self._accepting.running))
        await self._withdraw(registration)
        self._accepting.draining = True
        try:
            async with asyncio.timeout(planes.drain_timeout):
                if planes.dynamo:
                    self._accepting.last_call = True
                    await asyncio.sleep(_LAST_CALL)
                    self._accepting.last_call = False
                await asyncio.gather(*(listener.drain() for listener in self._listeners))
                while self._accepting.running:
                    await asyncio.wait(list(self._accepting.running))
        except TimeoutError:
            raise TimeoutError(
                f"{len(self._accepting.running)} requests of {self.endpoint} still ran after "
                f"{planes.drain_timeout:g} s (DYN_WORKER_GRACEFUL_SHUTDOWN_TIMEOUT) and were cut off"
            ) from None

    async def _withdraw(self, registration: Registration) -> None:
        try:
            async with asyncio.timeout(_WITHDRAW_LIMIT):
                await registration.withdraw()
        except TimeoutError:
            place, limit = self._planes.discovery.place, _WITHDRAW_LIMIT
            log.warning("%s could not be withdrawn: no answer from %s in %g s", self.endpoint, place, limit)
        except DiscoveryError as error:
            log.warning("%s could not be withdrawn: %s", self.endpoint, describe(error))

    async def _cancel_handlers(self) -> None:
        """Last of all: whatever still runs is cut off, and its caller told so by a broken stream."""
        running = list(self._accepting.running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=1.0)


async def _unless(left: asyncio.Future[Any], work: Coroutine[Any, Any, T]) -> T | None:
    """Its result; None if `left` is done before, and then it is cut short.

    Discovery, or a plane's broker, may be away and keep it waiting for long.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([left, task], return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@functools.cache
def _version() -> str | None:
    """That of this distribution; None when run from a source tree."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("reqplane")
    return None


def _addresses(transport: Mapping[str, Any]) -> str:
    """What looks like an address in each plane's part of a record, for people."""
    found = [text for member in transport.values() if (text := _first_text(member)) is not None]
    return ", ".join(found) or "no address"


def _first_text(member: object) -> str | None:
    if isinstance(member, str):
        return member
    if not isinstance(member, Mapping):
        return None
    values = cast(Mapping[str, object], member).values()
    return next((value for value in values if isinstance(value, str)), None)
