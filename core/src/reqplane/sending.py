"""Sending a request: from picking a worker to the first of its ack and its call-home.

    pick ─► attempt: expect, head, frame, send ─► first of ack and call-home ─► Delivered
     ▲_________│ CannotConnect, or a refusal that says "elsewhere": another worker, each once

The ack and the worker's call-home race, and the call-home mostly wins: the call goes on at whichever is
first.  A subject belongs to one attempt; whatever ends the attempt closes it, and a worker that calls home
later is killed.  So a request that was given up never runs on unseen, and none is answered twice.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from reqplane.context import Context
from reqplane.errors import (
    CannotConnect,
    DeadlineExceeded,
    DeliveryUnknown,
    FrameTooLarge,
    NotDelivered,
    PayloadError,
    ReqplaneError,
    RequestError,
    RequestRefused,
    WorkerDraining,
    WrongInstance,
)
from reqplane.instances import Route, Worker
from reqplane.interfaces import Observer, Outcome, PendingStream, ResponseTransport, RouterPolicy, Timers
from reqplane.model import NEVER, Request
from reqplane.pump import Pump, Spawn
from reqplane.wire.frame import Frame
from reqplane.wire.request import MAX_HEADER_BYTES
from reqplane.wire.trace import INSTANCE

if TYPE_CHECKING:
    from reqplane.client import Client

log = logging.getLogger("reqplane")

_ASK_AGAIN = 8
"""Refusals after which an address that several workers share is given up."""
_ASK_FOR_ONE = 16
"""The same for a call to one certain worker among them, times the workers that are known to be there: a
balancer that chooses at random has then missed it once in ten million times."""
_MOST_FOR_ONE = 256
"""But not more often than that."""


@dataclass(frozen=True, slots=True)
class Calling:
    """What every call of a runtime needs."""

    response: ResponseTransport
    timers: Timers
    observers: Sequence[Observer]
    planes: tuple[str, ...]
    call_home_timeout: float
    idle_timeout: float | None
    spawn: Spawn
    installs: Mapping[str, str] = field(default_factory=dict[str, str])
    """What to type for planes that are not installed here, for messages."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A request that a worker has, or may have, taken: whom its answer comes from, and how."""

    worker: Worker
    route: Route
    pending: PendingStream


class Sending:
    """One request on its way.  Forgotten, with its payload, when it has been delivered.

    A request that is itself a stream is delivered by its head; its items follow (reqplane.pump).
    """

    __slots__ = (
        "_asked_again",
        "_client",
        "_context",
        "_deadline",
        "_encoded",
        "_error",
        "_instance_id",
        "_left",
        "_loop",
        "_pending",
        "_policy",
        "_request",
        "_stopped",
        "_tried",
        "streamed",
    )

    def __init__(
        self,
        client: Client,
        request: Any,
        policy: RouterPolicy | None,
        instance_id: int | None,
        context: Context,
        deadline: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._client = client
        self._request = request
        self.streamed = hasattr(type(cast(object, request)), "__aiter__")
        self._policy = policy
        self._instance_id = instance_id
        self._context = context
        self._deadline = deadline
        self._loop = loop
        self._left = self._stopped = False
        self._asked_again = 0
        self._encoded: tuple[str, bytes] | None = None
        self._tried: dict[int, str] | None = None
        self._error: RequestError | None = None
        self._pending: PendingStream | None = None

    async def deliver(self) -> Delivered | None:
        """Send it to one worker after the other until one has it; None if the caller left before that.

        Raises NoInstances, what the last attempt failed with, or an error after which no other worker may
        be asked.
        """
        while not (self._left or self._stopped):
            worker = await self._pick()
            try:
                delivered = await self._attempt(worker)
            except (NotDelivered, RequestRefused) as error:
                self._failed(worker, error)
                continue
            except BaseException as error:
                self._over(worker, "unknown" if isinstance(error, DeliveryUnknown) else "left")
                raise
            if self._left:
                self._over(worker, "left")
                return None
            return delivered
        return None

    def pump(self, delivered: Delivered, failed: Callable[[Exception], None]) -> Pump:
        """What sends the items, where the request is a stream."""
        spawn = self._client.calling.spawn
        return Pump(self._request, delivered.pending, delivered.worker.dialect.encode, spawn, failed)

    def stop(self) -> None:
        """Ask the handler to finish early; no other worker is asked from here on."""
        self._stopped = True
        if self._pending is not None:
            self._pending.stop()

    def leave(self) -> None:
        """Give up."""
        self._left = True
        if self._pending is not None:
            self._pending.close()

    # ── picking ──

    async def _pick(self) -> Worker:
        client, table = self._client, self._client.table
        table.check_open()
        worker = None
        if self._policy is not None:
            request = Request(self._request, self._context.headers)
            instance = self._policy.pick(request, self._tried.keys() if self._tried else _NOBODY)
            worker = None if instance is None else table.worker(instance.incarnation)
        elif self._instance_id is not None:
            worker = table.by_id(self._instance_id)
        if worker is not None:
            return worker
        raise self._error_of_last_attempt() or await client.no_instances(self._instance_id)

    def _failed(self, worker: Worker, error: RequestError) -> None:
        """Take note, and raise unless another worker may be asked."""
        refused = isinstance(error, RequestRefused)
        self._over(worker, "refused" if refused else "unreachable")
        self._error = error
        together = self._client.table.together(worker, error.transport)
        refuses = isinstance(error, CannotConnect) and error.by_worker
        if refuses or (isinstance(error, WorkerDraining) and together == 1):
            self._client.table.gone(worker.instance.incarnation)
        elsewhere = isinstance(error, CannotConnect) or (
            isinstance(error, RequestRefused) and error.retry_elsewhere
        )
        shared = worker.instance.shared or together > 1
        if elsewhere and refused and shared and self._asked_again < _patience(error, together):
            self._asked_again += 1  # somebody else may be behind the same address
            return
        if self._tried is None:
            self._tried = {}
        self._tried[worker.instance.incarnation] = worker.instance.label
        if not elsewhere or self._policy is None:
            raise error
        log.info("request %s goes to another instance: %s", self._context.id, error)

    def _error_of_last_attempt(self) -> RequestError | None:
        error, self._error = self._error, None
        if error is not None and self._tried is not None and len(self._tried) > 1:
            error.tried = tuple(self._tried.values())
        return error

    def _over(self, worker: Worker, outcome: Outcome) -> None:
        if self._policy is not None:
            self._policy.finished(worker.instance, outcome)

    # ── one attempt ──

    async def _attempt(self, worker: Worker) -> Delivered:
        """Send to one worker, by its next plane if one can't connect."""
        if self._policy is not None:
            self._policy.started(worker.instance)
        clock, last = self._loop.time, len(worker.routes) - 1
        for index, route in enumerate(worker.ways(clock)):
            began = clock()
            try:
                delivered = await self._send(worker, route)
            except CannotConnect as error:
                route.failed(began, clock())
                if index == last or self._stopped:
                    raise
                log.info("request %s tries the next plane: %s", self._context.id, error)
            else:
                route.worked()
                return delivered
        raise AssertionError("a worker has at least one route")

    async def _send(self, worker: Worker, route: Route) -> Delivered:
        """By one plane: returns at the first of ack and call-home."""
        calling = self._client.calling
        expect = calling.response.expect
        pending = expect(self._context.id, sends=True) if self.streamed else expect(self._context.id)
        self._pending = pending
        ack: asyncio.Future[None] | None = None
        try:
            self._check_deadline("a worker to send to")
            frame, headers = self._frame(worker, route, pending)
            for observer in calling.observers:
                observer.call_started(self._context.id, worker.instance, route.plane)
            ack = asyncio.ensure_future(route.transport.send(route.target, frame, headers, self._deadline))
            await self._first_of(ack, pending)
            if not pending.opened.done():
                if ack.cancelled():  # by the plane: a CancelledError would look as if the caller were meant
                    raise DeliveryUnknown("connection_lost", f"the plane {route.plane} gave the request up")
                ack.result()
        except BaseException as error:
            self._abandon(pending, ack)
            reason = self._reason(error)
            if isinstance(reason, ReqplaneError):
                locate(reason, self._context.id, self._client.path, worker, route)
            raise reason from error.__cause__
        if self._left:
            ack.cancel()
        _late_ack(self._context.id, ack)
        return Delivered(worker, route, pending)

    def _abandon(self, pending: PendingStream, ack: asyncio.Future[None] | None) -> None:
        if ack is not None:
            ack.cancel()
            _late_ack(self._context.id, ack)
        pending.close()
        self._pending = None

    def _reason(self, error: BaseException) -> BaseException:
        """What the caller gets; the plane's clock may have rung just before ours."""
        late = isinstance(error, RequestError) and not isinstance(error, DeadlineExceeded) and self._late()
        return DeadlineExceeded("the worker's ack") if late else error

    def _frame(self, worker: Worker, route: Route, pending: PendingStream) -> tuple[Frame, Mapping[str, str]]:
        headers = self._context.headers
        instance = worker.instance
        if self._instance_id is not None and not instance.shared:
            headers = {**headers, INSTANCE: f"{instance.instance_id}/{instance.incarnation}"}
        codec = worker.dialect.name
        if self._encoded is None or self._encoded[0] != codec:
            self._encoded = codec, b"" if self.streamed else worker.dialect.encode(self._request)
        timeout = None if self._deadline == NEVER else self._deadline - self._loop.time()
        in_head = None if route.carries_headers else headers
        metadata = self._context.metadata
        header = self._client.template(codec, pending).render(pending.info, timeout, in_head, metadata)
        if metadata and len(header) > MAX_HEADER_BYTES:
            problem = "this is its head, with the context's metadata; send so much in the request itself"
            raise FrameTooLarge(len(header), MAX_HEADER_BYTES, problem)
        return Frame(header, self._encoded[1]), headers

    async def _first_of(self, ack: asyncio.Future[None], pending: PendingStream) -> None:
        if ack.done():
            return
        first = self._loop.create_future()

        def wake(_: object = None) -> None:
            if not first.done():
                first.set_result(None)

        ack.add_done_callback(wake)
        pending.opened.add_done_callback(wake)
        timer = None
        if self._deadline != NEVER:
            timer = self._client.calling.timers.at(self._deadline, wake)
        try:
            await first
        finally:
            if timer is not None:
                timer.cancel()
        if not ack.done() and not pending.opened.done():
            self._check_deadline("the worker's ack")

    def _late(self) -> bool:
        return self._deadline <= self._loop.time()

    def _check_deadline(self, stage: str) -> None:
        if self._late():
            raise DeadlineExceeded(stage)


_NOBODY: frozenset[int] = frozenset()


def _patience(error: RequestError, together: int) -> int:
    """How often an address that several workers share is asked again."""
    if isinstance(error, WrongInstance):
        return min(_ASK_FOR_ONE * together, _MOST_FOR_ONE)
    return _ASK_AGAIN


def locate(
    error: ReqplaneError, request_id: str, path: str, worker: Worker | None, route: Route | None
) -> None:
    """Say in an error which call it is about."""
    if isinstance(error, PayloadError):
        error.request_id = request_id
        return
    fill_in = getattr(error, "locate", None)
    if fill_in is not None:
        fill_in(
            request_id=request_id,
            endpoint=path,
            transport=None if route is None else route.plane,
            instance=None if worker is None else str(worker.instance.instance_id),
        )


def _late_ack(request_id: str, ack: asyncio.Future[None]) -> None:
    """Nobody waits for this ack any more: the answer is under way, or the attempt was given up."""
    if not ack.done():
        ack.add_done_callback(functools.partial(_late_ack, request_id))
    elif not ack.cancelled() and (error := ack.exception()) is not None:
        log.debug("request %s: its ack, not needed any more, says: %s", request_id, error)
