"""One call and its answer, asking side.

Stream._start     the request goes out (reqplane.sending), by the first of ack and call-home; the items of one
                  that is itself a stream follow (reqplane.pump) when the worker has called home
Stream._items     receive ─► decode ─► yield … until the end marker, or an error that says what happened
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self

from reqplane.annotated import AnnotatedItem
from reqplane.context import Context
from reqplane.errors import (
    DeadlineExceeded,
    DeliveryUnknown,
    HandlerFailed,
    PayloadError,
    ReqplaneError,
    StreamBroken,
)
from reqplane.instances import Route, Worker
from reqplane.interfaces import Outcome, PendingStream, RouterPolicy, Timer
from reqplane.model import NEVER, Annotated, Broken, Control, End, Instance, Part, Prologue
from reqplane.pump import Pump
from reqplane.sending import Sending, locate
from reqplane.wire.dialect import Fields
from reqplane.wire.failure import error_from, is_error

if TYPE_CHECKING:
    from reqplane.client import Client

P = ParamSpec("P")


_State = Literal["new", "open", "over"]
_NOTHING: Any = object()


class Stream:
    """One call and its answer.

    `async for item in stream` sends the request and yields the items; leaving the loop early stops the
    handler, and a second loop over what was left raises.  `await stream` sends it and returns at the
    worker's ack; from then on the stream is held by whoever awaited it, leaving a loop only pauses it, and
    `aclose()`, `async with` or `stop_generating()` end it.
    """

    __slots__ = (
        "__weakref__",
        "_annotated",
        "_batch",
        "_client",
        "_context",
        "_deadline",
        "_error",
        "_follower",
        "_follows",
        "_held",
        "_idle_since",
        "_left_early",
        "_loop",
        "_pending",
        "_policy",
        "_pump",
        "_reading",
        "_reason",
        "_route",
        "_sending",
        "_state",
        "_stopping",
        "_timer",
        "_worker",
        "items_received",
    )

    def __init__(
        self,
        client: Client,
        request: Any,
        policy: RouterPolicy | None,
        instance_id: int | None,
        context: Context | None,
        timeout: float | None,
        annotated: bool,
    ) -> None:
        _check_timeout(timeout)
        self._context = Context() if context is None else context
        self._follows = context is not None  # a context of our own would only make a cycle
        self.items_received = 0
        self._client = client
        self._policy = policy
        self._annotated = annotated
        self._loop = asyncio.get_running_loop()
        self._deadline = self._context.deadline
        if timeout is not None:
            self._deadline = min(self._deadline, self._loop.time() + timeout)
        self._state: _State = "new"
        self._held = False
        self._stopping = False
        self._reading = False
        self._left_early = False
        self._error: BaseException | None = None
        self._reason: Exception | None = None  # why we closed it
        self._follower: Callable[[Control], None] | None = None
        self._idle_since: float | None = None  # waiting for an item, where that is limited
        self._sending: Sending | None = Sending(
            client, request, policy, instance_id, self._context, self._deadline, self._loop
        )
        self._worker: Worker | None = None
        self._route: Route | None = None
        self._pending: PendingStream | None = None
        self._pump: Pump | None = None  # of a request that is a stream
        self._timer: Timer | None = None
        self._batch: Iterator[object] = iter(())  # of Part, or Fields

    # ── what callers see ──

    @property
    def request_id(self) -> str:
        return self._context.id

    @property
    def instance(self) -> Instance | None:
        """The worker that took the request, once one has."""
        return None if self._worker is None else self._worker.instance

    @property
    def plane(self) -> str | None:
        """The plane that carried it."""
        return None if self._route is None else self._route.plane

    def __repr__(self) -> str:
        return f"Stream({self._client.path!r}, request_id={self.request_id!r}, {self._state})"

    def __await__(self) -> Generator[Any, None, Self]:
        self._held = True
        if self._state == "new":
            yield from self._start().__await__()
        elif self._state == "open":
            self._check_sent()
        return self

    def __aiter__(self) -> AsyncGenerator[Any, None]:
        # A fresh generator each time: Python closes it when the loop is left, so `break` is noticed.
        return self._items()

    async def __aenter__(self) -> Self:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the call; the handler is stopped if it still runs.  Idempotent."""
        self._finish(None, "left")

    def stop_generating(self) -> None:
        """Ask the handler to finish early; what it has yielded by then still comes."""
        if self._stopping or self._state == "over":
            return
        self._stopping = True
        under_way = self._pending or self._sending
        if under_way is not None:
            under_way.stop()
        if self._pump is not None:
            self._pump.stop()

    def __del__(self) -> None:
        if getattr(self, "_state", "over") == "open" and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._finish, None, "left")  # dropped unread

    # ── sending ──

    async def _start(self) -> None:
        """Send the request to one worker after the other until one has it."""
        sending = self._sending
        assert sending is not None
        self._state = "open"
        if self._follows:
            self._follower = _weakly(self, Stream._told)
            self._context.follow(self._follower)
        try:
            delivered = await sending.deliver()
        except BaseException as error:
            if isinstance(error, ReqplaneError):
                self._locate(error)
            self._left_early = True
            self._finish(error, "left")
            raise
        finally:
            self._sending = None
        if delivered is None:
            self._finish(None, "done")  # it was stopped, or killed, before anybody had it
            return
        self._worker, self._route, self._pending = delivered.worker, delivered.route, delivered.pending
        if sending.streamed:
            self._pump = sending.pump(delivered, _weakly(self, Stream._request_failed))
        self._await_home(delivered.pending)

    def _request_failed(self, error: Exception) -> None:
        """The rest of the request, a stream, does not come: the call ends by what keeps it back."""
        if self._state == "open" and self._pending is not None:
            self._reason = self._reason or error
            self._pending.close()

    # ── the one timer ──

    def _await_home(self, pending: PendingStream) -> None:
        """Until the worker has called home its time-out counts beside the deadline, then the deadline."""
        if pending.opened.done():
            self._arm(self._deadline)
            if self._pump is not None:
                self._pump.start()
        else:
            limit = self._client.calling.call_home_timeout
            self._arm(min(self._deadline, self._loop.time() + limit))
            pending.opened.add_done_callback(_weakly(self, Stream._called_home))

    def _called_home(self, opened: asyncio.Future[None]) -> None:
        if self._state == "open" and not opened.cancelled():
            self._arm_open()
            if self._pump is not None:
                self._pump.start()

    def _arm_open(self) -> None:
        """For a stream whose worker has called home: the deadline, and the idle time of one who waits."""
        idle = self._client.calling.idle_timeout
        if idle is None or self._idle_since is None:
            self._arm(self._deadline)
        else:
            self._idle_since = self._loop.time()
            self._arm(min(self._deadline, self._idle_since + idle))

    def _arm(self, when: float) -> None:
        self._disarm()
        if when != NEVER:
            self._timer = self._client.calling.timers.at(when, _weakly(self, Stream._expired))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        """The time is up for something; what has come by now is still yielded, then the reason raised."""
        self._timer = None
        pending = self._pending
        if pending is None:
            return
        if self._deadline <= self._loop.time():
            called = pending.opened.done()
            self._reason = DeadlineExceeded("the rest of the answer" if called else "the worker to call home")
        elif not pending.opened.done():
            limit = self._client.calling.call_home_timeout
            self._reason = DeliveryUnknown(
                "never_called_home",
                f"the worker acknowledged, but did not connect to {pending.info.address} within {limit:g} s "
                f"(DYN_CALL_HOME_TIMEOUT): it died, or can't reach that address and port, or its "
                f"DYN_RESPONSE_ALLOW forbids it",
            )
        elif self._idle_since is not None:
            limit = self._loop.time() - self._idle_since
            self._reason = StreamBroken(f"no item for {limit:.3g} s (DYN_STREAM_IDLE_TIMEOUT)")
        else:
            self._arm_open()  # it called home at this very moment
            return
        self._close()

    # ── receiving ──

    async def _items(self) -> AsyncGenerator[Any, None]:
        if self._state == "new":
            await self._start()
        else:
            self._check_readable()
        if self._worker is None or self._state == "over":
            return
        decode = self._decoder(self._worker)
        try:
            while True:
                for part in self._batch:
                    kind = type(part)
                    if kind is bytes or kind is bytearray:
                        try:
                            value = decode(part)
                        except PayloadError as error:
                            raise self._at_this_item(error) from error.__cause__
                        self.items_received += 1
                        yield value
                    elif (item := self._rare(part)) is not _NOTHING:
                        yield item
                if self._state != "open":
                    return
                await self._receive()  # if another task closes the stream meanwhile, the batch says so
        except BaseException as error:
            self._left(error)
            raise

    def _check_readable(self) -> None:
        """An answer that did not come whole does not look complete the second time either."""
        if self._error is not None:
            raise self._error
        if self._left_early:
            raise ReqplaneError(
                f"the call {self.request_id} was left before its answer was whole, and ended by that; await "
                f"the stream first to read it in several loops"
            )
        if self._state == "open":
            self._check_sent()

    def _check_sent(self) -> None:
        if self._sending is not None:
            raise RuntimeError("another task has not finished sending this call")

    def _left(self, error: BaseException) -> None:
        """The loop over the items ends by an error, or because its body is left."""
        if isinstance(error, ReqplaneError):
            self._locate(error)
        if isinstance(error, Exception):
            self._finish(error, "failed")
        elif not self._held:
            self._left_early = True
            self._finish(None, "left")

    async def _receive(self) -> None:
        """Wait for the next batch."""
        pending, worker = self._pending, self._worker
        assert pending is not None
        assert worker is not None
        if self._reading:
            raise RuntimeError("another task is reading this stream")
        self._reading = True
        try:
            if self._client.calling.idle_timeout is None:
                parts = await pending.receive()
            else:
                parts = await self._receive_or_idle(pending)
        finally:
            self._reading = False
        if not pending.enveloped:
            self._batch = iter(parts)
            return
        self._batch = iter(worker.enveloped().read(parts))

    def _at_this_item(self, error: PayloadError) -> PayloadError:
        """Bytes of an item that can't be decoded: say which it was, or it would read as the request's."""
        error.index = self.items_received
        return error

    async def _receive_or_idle(self, pending: PendingStream) -> list[Part]:
        """Only the time that the reader waits counts: a reader that pauses does not break its stream."""
        self._idle_since = self._loop.time()
        if pending.opened.done():
            self._arm_open()
        try:
            return await pending.receive()
        finally:
            self._idle_since = None
            if pending.opened.done() and self._state == "open":
                self._arm_open()

    def _decoder(self, worker: Worker) -> Callable[[Any], Any]:
        """From a plain item's bytes to what is yielded."""
        decode = worker.dialect.decode
        if not self._annotated:
            return decode
        return lambda body: AnnotatedItem({"data": decode(body)})

    def _rare(self, part: Any) -> Any:
        """Anything but a plain item: an item to yield, or nothing, or the end, or an error."""
        if isinstance(part, Annotated):
            assert self._worker is not None
            try:
                part = self._worker.dialect.fields(part)
            except PayloadError as error:
                raise self._at_this_item(error) from error.__cause__
        if isinstance(part, Fields):
            return self._annotated_item(part.members)
        if isinstance(part, End):
            self._finish(None, "done")
        elif isinstance(part, Prologue):
            if part.error is not None:
                raise HandlerFailed(part.error)
        elif isinstance(part, Broken):
            self._broken(part)
        return _NOTHING

    def _annotated_item(self, members: Mapping[str, Any]) -> Any:
        if is_error(members):
            raise error_from(members, self.items_received)
        if "data" not in members and not self._annotated:
            return _NOTHING  # an event or a comment without data
        self.items_received += 1
        return AnnotatedItem(members) if self._annotated else members["data"]

    def _broken(self, broken: Broken) -> None:
        if self._reason is not None:
            if isinstance(self._reason, DeadlineExceeded | StreamBroken):
                self._reason.items_received = self.items_received
            raise self._reason
        if self._stopping:
            self._finish(None, "done")
            return
        if self._deadline <= self._loop.time():  # the worker's clock may have rung before ours
            raise DeadlineExceeded("the rest of the answer", items_received=self.items_received)
        raise StreamBroken(broken.reason, items_received=self.items_received)

    # ── the end ──

    def _told(self, control: Control) -> None:
        """The context that this call follows was asked to stop."""
        if control is Control.STOP:
            self.stop_generating()
            return
        self._stopping = True
        if self._sending is not None:
            self._sending.leave()
        elif self._pending is not None:
            self._pending.kill()
            self._close()

    def _finish(self, error: BaseException | None, outcome: Outcome) -> None:
        """Let go of everything; idempotent.  `outcome` is what the policy is told of the worker."""
        if self._state == "over":
            return
        started = self._state == "open"
        self._state = "over"
        self._error = error if isinstance(error, Exception) else None
        self._disarm()
        if self._sending is not None:
            self._sending.leave()
        self._close()
        if started:
            if self._follower is not None:
                self._context.unfollow(self._follower)
            if self._worker is not None and self._policy is not None:
                self._policy.finished(self._worker.instance, outcome)
            for observer in self._client.calling.observers:
                observer.call_finished(self._context.id, self.items_received, error)

    def _close(self) -> None:
        """Neither take nor send any more."""
        if self._pending is not None:
            self._pending.close()
        if self._pump is not None:
            self._pump.stop()

    def _locate(self, error: ReqplaneError) -> ReqplaneError:
        locate(error, self.request_id, self._client.path, self._worker, self._route)
        return error


def _check_timeout(timeout: object) -> None:
    if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):
        raise ValueError(f"timeout is {timeout!r}, wanted a number of seconds")


def _weakly(stream: Stream, method: Callable[Concatenate[Stream, P], None]) -> Callable[P, None]:
    """A method for others to keep: it does not keep the stream, which must notice that it was dropped."""
    reference = weakref.ref(stream)

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        held = reference()
        if held is not None:
            method(held, *args, **kwargs)

    return call
