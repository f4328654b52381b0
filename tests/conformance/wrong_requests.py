"""Wrong request transports, each made from the one in memory: what goes wrong whatever carries the frames."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable
from typing import Any

from reqplane.errors import (
    CannotConnect,
    DeliveryUnknown,
    FrameTooLarge,
    RequestError,
    RequestRefused,
    refusal,
)
from reqplane.interfaces import Accept, Host, Listener
from reqplane.model import Headers, Instance, Served
from reqplane.wire.frame import Frame
from reqplane_conformance.memory import MemoryTransport
from reqplane_conformance.memory.network import Parcel
from reqplane_conformance.memory.requests import MemorySettings, Target

# ── headers ─────────────────────────────────────────────────────────────────────────────────────────


class _OtherHeaders(MemoryTransport):
    """Headers arrive as `became` makes them."""

    async def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> None:
        await super().send(target, frame, self.became(headers), deadline)

    def became(self, headers: Headers) -> Headers:
        raise NotImplementedError


class DropsHeaders(_OtherHeaders):
    """Claims to carry headers, and carries the frame alone."""

    def became(self, headers: Headers) -> Headers:
        return {}


class LowersValues(_OtherHeaders):
    """Names are lower-case; the values are too."""

    def became(self, headers: Headers) -> Headers:
        return {name: value.lower() for name, value in headers.items()}


class CutsValues(_OtherHeaders):
    """A column, a buffer or a proxy allows 255 characters."""

    def became(self, headers: Headers) -> Headers:
        return {name: value[:255] for name, value in headers.items()}


class InventsTrace(_OtherHeaders):
    """Its library is instrumented and begins a trace where there is none."""

    def became(self, headers: Headers) -> Headers:
        return {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", **headers}


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────


class _OtherErrors(MemoryTransport):
    """Senders are told what `turned` makes of an error; None: nothing."""

    async def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> None:
        try:
            await super().send(target, frame, headers, deadline)
        except RequestError as error:
            other = self.turned(error)
            if other is not None:
                raise other from error

    def turned(self, error: RequestError) -> BaseException | None:
        raise NotImplementedError


class RefusalIsSuccess(_OtherErrors):
    """Whatever the worker answers is taken for an ack."""

    def turned(self, error: RequestError) -> BaseException | None:
        return None if isinstance(error, RequestRefused) else error


class LosesTheCode(_OtherErrors):
    """A refusal's text travels, its code does not."""

    def turned(self, error: RequestError) -> BaseException:
        if not isinstance(error, RequestRefused):
            return error
        return RequestRefused(error.problem, transport=error.transport, address=error.address)


class LosesTheText(_OtherErrors):
    """A refusal's code travels as a status, its text does not."""

    def turned(self, error: RequestError) -> BaseException:
        if not isinstance(error, RequestRefused):
            return error
        return refusal(error.code, "", transport=error.transport, address=error.address)


class TimeOutIsCannotConnect(_OtherErrors):
    """Every time-out is one of connecting, so that the core sends the request to another worker too."""

    def turned(self, error: RequestError) -> BaseException:
        if isinstance(error, DeliveryUnknown) and error.reason == "timed_out":
            return CannotConnect("timed out", address=error.address)
        return error


# ── when a send ends ────────────────────────────────────────────────────────────────────────────────


class DeadlineIsADuration(MemoryTransport):
    """Takes the deadline, a moment, for the seconds that are left."""

    async def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> None:
        now = asyncio.get_running_loop().time()
        await super().send(target, frame, headers, now + deadline)


class CountsMilliseconds(MemoryTransport):
    """Its library wants whole milliseconds, and a deadline may be infinite."""

    async def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> None:
        now = asyncio.get_running_loop().time()
        milliseconds = int((deadline - now) * 1000)
        await super().send(target, frame, headers, now + milliseconds / 1000)


class SwallowsCancellation(MemoryTransport):
    """A bare `except` turns what it does not know into DeliveryUnknown."""

    async def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> None:
        try:
            await super().send(target, frame, headers, deadline)
        except RequestError:
            raise
        except BaseException as error:
            raise DeliveryUnknown("connection_lost", "it failed", address=target.address) from error


class OneAfterTheOther(MemoryTransport):
    """One lock for all sends: its client must not be used twice at once."""

    def __init__(self, host: Host, settings: MemorySettings) -> None:
        super().__init__(host, settings)
        self._lock = asyncio.Lock()

    async def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> None:
        async with self._lock:
            await super().send(target, frame, headers, deadline)


class AllowsOneByteLess(MemoryTransport):
    """A frame of exactly `max_frame_bytes` is too large."""

    async def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> None:
        limit = self.max_frame_bytes
        if len(frame) >= limit:
            raise FrameTooLarge(len(frame), limit, address=target.address)
        await super().send(target, frame, headers, deadline)


class UsesTheFrameUp(MemoryTransport):
    """Lets go of a large body once it is sent; after a refusal the core sends the frame again."""

    async def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> None:
        await super().send(target, frame, headers, deadline)
        if len(frame.body) > 64 * 1024:
            frame.body = b""


# ── records and targets ─────────────────────────────────────────────────────────────────────────────


class RecordHasATuple(MemoryTransport):
    """JSON has no tuples: what a frontend sees is another record."""

    async def listen(self, served: Served, accept: Accept) -> Listener:
        listener = await super().listen(served, accept)
        return _listening(self, listener, lambda record: {**record, "versions": (1, 2)})


class RecordChanges(MemoryTransport):
    """A record says when it was made, so that each is another one."""

    async def listen(self, served: Served, accept: Accept) -> Listener:
        listener = await super().listen(served, accept)
        return _listening(self, listener, lambda record: {**record, "made": time.monotonic()})


class ExpectsItsOwnRecords(MemoryTransport):
    """`target` takes for granted that the record speaks of this plane."""

    def target(self, instance: Instance) -> Target | None:
        found = instance.transport[self.name]
        return Target(found["address"], found["endpoint"])


class RemembersTargets(MemoryTransport):
    """Targets are kept by the worker's number, which another worker may get."""

    def __init__(self, host: Host, settings: MemorySettings) -> None:
        super().__init__(host, settings)
        self._targets: dict[str, Target | None] = {}

    def target(self, instance: Instance) -> Target | None:
        if instance.label not in self._targets:
            self._targets[instance.label] = super().target(instance)
        return self._targets[instance.label]


def _listening(transport: MemoryTransport, listener: Listener, shape: Callable[[Any], Any]) -> Listener:
    """A listener whose record has another shape."""
    right = listener.record
    listener.record = lambda number: {transport.name: shape(right(number)[transport.name])}  # type: ignore[method-assign]
    return listener


# ── listening ───────────────────────────────────────────────────────────────────────────────────────


class AnyEndpoint(MemoryTransport):
    """A frame for an endpoint that is not served here goes to one that is."""

    def _hand_over(self, parcel: Parcel) -> RequestError | None:
        if parcel.endpoint not in self._endpoints and self._endpoints:
            parcel.endpoint = next(iter(self._endpoints))
        return super()._hand_over(parcel)


class AcceptsInAThread(MemoryTransport):
    """Its library calls back in a thread of its own."""

    async def listen(self, served: Served, accept: Accept) -> Listener:
        def in_a_thread(delivery: Any) -> None:
            with concurrent.futures.ThreadPoolExecutor(1, "library") as pool:
                pool.submit(accept, delivery).result()

        return await super().listen(served, in_a_thread)


class ListensSoon(MemoryTransport):
    """A further `listen` returns before the server has confirmed the subscription."""

    async def listen(self, served: Served, accept: Accept) -> Listener:
        listener = await super().listen(served, accept)
        if len(self._endpoints) > 1:
            endpoint = str(served.endpoint)
            entry = self._endpoints.pop(endpoint)
            asyncio.get_running_loop().call_later(0.05, self._endpoints.setdefault, endpoint, entry)
        return listener


class KeepsTheBudget(MemoryTransport):
    """Bytes are given back when a frame was accepted, and not when it was refused."""

    def _hand_over(self, parcel: Parcel) -> RequestError | None:
        error = super()._hand_over(parcel)
        if isinstance(error, RequestRefused):
            self._host.inflight.take(len(parcel.frame))
        return error
