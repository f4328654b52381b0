"""One call, answering side: accept a frame, call home, run the handler, send what it yields.

    accept      head checked ─► handler scheduled ─► return, and the plane acks
    _answer     call home ─► its turn ─► decode ─► prologue ─► _stream: item ─► codec ─► write … ─► end

The worker calls home before anything else, so a frontend soon knows that its request has arrived.  A
handler that never awaits still gives way to others: after its first item and then every few KiB.  A request
that is itself a stream (reqplane.request_stream) comes while its handler runs.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reqplane.context import Context
from reqplane.errors import (
    FrameTooLarge,
    InvalidFrame,
    NotAllowed,
    PayloadError,
    ReqplaneError,
    RequestBroken,
    UnknownEndpoint,
    WireError,
    WorkerDraining,
    WrongInstance,
)
from reqplane.fairness import BURST, ITEM_COST
from reqplane.handlers import Handler
from reqplane.interfaces import Delivery, HomeStream, Observer, PayloadCodec, ResponseTransport, Timers
from reqplane.model import Body, Control, EndpointId
from reqplane.request_stream import RequestStream
from reqplane.wire.dialect import Dialect, EnvelopedDialect
from reqplane.wire.failure import SHORT_TEXT
from reqplane.wire.frame import split
from reqplane.wire.request import RequestHead, decode_head
from reqplane.wire.trace import INSTANCE, carried
from reqplane.workload import EndpointWork, Turn, Workload

log = logging.getLogger("reqplane")

_DEADLINE_GRACE = 0.1
"""Seconds that a worker waits beyond a deadline, so that its caller's own clock is the one that rings."""


STREAM_WANTED = (
    "bidirectional engine received a non-header-only envelope: this endpoint takes requests that are streams"
)
"""How the refusal of a single request begins, where requests are streams."""


@dataclass(frozen=True, slots=True)
class Answering:
    """What every served endpoint of a runtime needs."""

    incarnation: int
    response: ResponseTransport
    codecs: Mapping[str, PayloadCodec]
    timers: Timers
    observers: Sequence[Observer]
    workload: Workload
    max_frame_bytes: int


class ServedEndpoint:
    """One endpoint of this process.  `accept` is what its listeners call, on whichever plane.

    `streamed`: its requests are streams themselves, and its handler gets a RequestStream.
    """

    def __init__(
        self,
        endpoint: EndpointId,
        handler: Handler,
        answering: Answering,
        work: EndpointWork,
        *,
        hands_off: bool = False,
        streamed: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self._hands_off = hands_off
        self.instance_ids: set[int] = set()
        """This worker's number, and those it had until lately."""
        self.draining = False
        self.last_call = False
        """It leaves, but takes requests of Dynamo's clients, which would ask no other worker."""
        self.running: set[asyncio.Task[None]] = set()
        self._path = str(endpoint)
        self._handler = handler
        self._streamed = streamed
        self._answering = answering
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._enveloped: dict[str, Dialect] = {}
        self._plain = {name: Dialect(name, codec) for name, codec in answering.codecs.items()}

    # ── accepting ──

    def accept(self, delivery: Delivery) -> None:
        """Check the frame and schedule its handler; RequestRefused says why not."""
        try:
            header, body = split(delivery.frame, self._answering.max_frame_bytes)
            head = decode_head(header)
        except WireError as error:
            raise InvalidFrame(error.problem) from error
        self._check(head, delivery)
        if self._streamed or head.connection.request is not None:
            self._check_form(head, body)
        headers = carried(delivery.headers) if delivery.headers else head.headers
        if INSTANCE in headers:  # it was for this worker; a call made from here goes to another
            headers = {name: value for name, value in headers.items() if name != INSTANCE}
        size = len(header) + len(body)
        turn = self._work.admit(size)  # last, so that nothing can fail before the task gives it back
        task = self._loop.create_task(self._answer(head, body, headers, turn))
        self.running.add(task)
        task.add_done_callback(functools.partial(self._ended, size, turn))

    def _ended(self, size: int, turn: Turn | None, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        self._work.release(size, turn)

    def _check(self, head: RequestHead, delivery: Delivery) -> None:
        if head.endpoint is not None and head.endpoint != self._path:
            raise UnknownEndpoint(f"the request is for {head.endpoint!r:.200}, this is {self._path}")
        wanted = delivery.headers.get(INSTANCE) or head.headers.get(INSTANCE)
        if wanted is not None and not self._is_me(wanted):
            raise WrongInstance(f"the request is for the instance {wanted!r:.100}")
        if head.codec not in self._plain:
            raise InvalidFrame(
                f"the codec {head.codec!r:.60} is not installed here; there are {', '.join(self._plain)}"
            )
        objection = self._answering.response.objection(head.connection)
        if objection is not None:
            raise NotAllowed(objection)
        if self.draining and not (self.last_call and head.endpoint is None):  # ours name the endpoint
            raise WorkerDraining("the worker is leaving")

    def _check_form(self, head: RequestHead, body: Body) -> None:
        """Whether the request is a stream where it must be, and only there.

        The first words of each text are those of Dynamo, to whose users they are known.
        """
        if not self._streamed:
            raise InvalidFrame(
                "unary engine received a header-only envelope; expected a request payload: this endpoint "
                "takes single requests, and this one is a stream (an async iterable)"
            )
        if head.connection.request is None:
            raise InvalidFrame(f"{STREAM_WANTED}, and this one is single: send an async iterable of items")
        if body:
            raise InvalidFrame(f"{STREAM_WANTED}: its items follow, and its frame has no body")

    def _is_me(self, wanted: str) -> bool:
        """Whether `<id>/<incarnation>`, or an id alone, names this worker."""
        number, _, incarnation = wanted.partition("/")
        if incarnation:
            return incarnation == str(self._answering.incarnation)
        return number in map(str, self.instance_ids)

    # ── answering ──

    async def _answer(
        self, head: RequestHead, body: Body, headers: Mapping[str, str], turn: Turn | None
    ) -> None:
        """One request from call-home to end; nothing is raised, whatever the handler does."""
        task = asyncio.current_task()
        assert task is not None
        context = Context(head.request_id, metadata=head.metadata)
        context.headers = headers

        told = functools.partial(_told, context, None if self._hands_off else task)
        try:
            home = await self._answering.response.call_home(head.connection, told)
        except ReqplaneError as error:
            log.warning(
                "request %s was accepted, but its answer has nowhere to go: %s", head.request_id, error
            )
            return
        except asyncio.CancelledError:
            return
        cut = self._cut_when_told(context, home)
        deadline = None
        if head.timeout is not None:
            context.deadline = self._loop.time() + head.timeout
            late = context.deadline + _DEADLINE_GRACE
            deadline = self._answering.timers.at(late, lambda: told(Control.KILL))
        try:
            if home.enveloped:  # Dynamo's client gives up what has none yet when the worker leaves
                home.prologue(None)
            if turn is not None:
                await turn
            work = self._run(home, self._dialect(head, home), body, context)
            del head, body  # the bytes that the request came in: those of others may be among them
            await work
        except asyncio.CancelledError:
            home.abort()
        except Exception:
            home.abort()
            log.exception("request %s could not be answered", context.id)
        except BaseException:  # Ctrl-C
            home.abort()
            raise
        finally:
            context.unfollow(cut)
            if deadline is not None:
                deadline.cancel()

    def _cut_when_told(self, context: Context, home: HomeStream) -> Callable[[Control], None]:
        """Where hands are kept off the handler, its answer ends at the first stop or kill."""

        def cut(control: Control) -> None:
            home.abort()

        if self._hands_off:
            context.follow(cut)
        return cut

    def _dialect(self, head: RequestHead, home: HomeStream) -> Dialect:
        if not home.enveloped:
            return self._plain[head.codec]
        dialect = self._enveloped.get(head.codec)
        if dialect is None:
            codec = self._answering.codecs[head.codec]
            dialect = self._enveloped[head.codec] = EnvelopedDialect(head.codec, codec)
        return dialect

    async def _run(self, home: HomeStream, dialect: Dialect, body: Body, context: Context) -> None:
        if not home.enveloped:
            home.prologue(None)
        request: Any
        try:
            request = RequestStream(home, dialect.decode, context) if self._streamed else dialect.decode(body)
        except PayloadError as error:
            _tell(home, dialect, error, uncarried=True)
            home.end(dialect.end(self._work.report()))
            return
        del body
        for observer in self._answering.observers:
            observer.handler_started(context.id, self.endpoint)
        sent = _Sent()
        failure: BaseException | None = None
        try:
            await self._stream(home, dialect, request, context, sent)
        except BaseException as error:
            failure = error
            if _is_ours(error):
                raise
            if not (isinstance(error, RequestBroken) and context.is_stopped()):  # as its caller wants it
                log.warning("request %s: the handler failed", context.id, exc_info=True)
                _tell(
                    home, dialect, error, uncarried=error is sent.uncarried or _is_undecodable(error, request)
                )
        finally:
            for observer in self._answering.observers:
                observer.handler_finished(context.id, sent.items, failure)
        if _is_cancelled() or context.is_killed():  # perhaps the handler has swallowed it: nothing is whole
            home.abort()
        else:
            home.end(dialect.end(self._work.report()))

    async def _stream(
        self, home: HomeStream, dialect: Dialect, request: Any, context: Context, sent: _Sent
    ) -> None:
        """Send the handler's items, at the pace of the reader and in turn with other handlers."""
        encode: Callable[[Any], bytes] = dialect.item
        write = home.write
        budget = 1  # give way after the first item already, so that all streams' first items go out soon
        items = self._handler(request, context)
        try:
            async for item in items:
                if budget <= 0:
                    await asyncio.sleep(0)
                    budget = BURST
                    if context.is_killed():  # and the handler has swallowed its cancellation
                        return
                try:
                    body = encode(item)
                    more = write(body)
                except PayloadError as error:
                    error.index = sent.items
                    sent.uncarried = error
                    raise
                except FrameTooLarge as error:
                    sent.uncarried = PayloadError(error.summary(), index=sent.items)
                    raise sent.uncarried from error
                sent.items += 1
                budget -= len(body) + ITEM_COST
                if not more:
                    await home.ready()
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()


def _told(context: Context, task: asyncio.Task[Any] | None, control: Control) -> None:
    """What the caller wants of a call that `task`, unless it is None, is to be cancelled with."""
    if control is Control.STOP:
        context.stop_generating()
        return
    context.kill()
    if task is not None:
        task.cancel()


def _tell(home: HomeStream, dialect: Dialect, error: BaseException, *, uncarried: bool) -> None:
    """Send the item that tells of a failure, in few words where many are more than the frontend takes."""
    try:
        home.write(dialect.failure(error, uncarried=uncarried), annotated=True)
    except FrameTooLarge:
        home.write(dialect.failure(error, uncarried=uncarried, most=SHORT_TEXT), annotated=True)


def _is_undecodable(error: BaseException, request: Any) -> bool:
    """Whether it was raised for an item of a request that is a stream."""
    return isinstance(request, RequestStream) and error is request.undecodable


def _is_ours(error: BaseException) -> bool:
    """Whether it was thrown into the handler from outside: we cancelled it, or somebody pressed Ctrl-C.

    Anything else is the handler's own failure, SystemExit too: one request must not end the worker.
    """
    if isinstance(error, asyncio.CancelledError):
        return _is_cancelled()
    return isinstance(error, KeyboardInterrupt)


def _is_cancelled() -> bool:
    """Whether the request that this task answers was given up: killed, too late, or cut off at the end."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class _Sent:
    """How many items went out, also when sending them was cut short; and what kept the next one back."""

    __slots__ = ("items", "uncarried")

    def __init__(self) -> None:
        self.items = 0
        self.uncarried: PayloadError | None = None
