"""What a plugin's answers must be able to do.

Abstract classes are what plugins implement: a forgotten method fails when the plugin is opened, by name.
Protocols are what the core hands in.  Everything here is called on the event loop of the runtime, unless
it says otherwise.

                discovery            request plane (http | nats | yours)            worker process
    frontend ──Instance──► policy ──► RequestTransport.send ════frame════► Listener ──► accept(delivery)
        ▲                                             ◄══════ack══════  (before the handler runs)
        │                                                                        │
        └── items ◄── PendingStream ◄═══════ TCP, the worker calls home ═══ HomeStream ◄── handler

Two facts give the shape.  A frame is opaque to a request transport, so a transport is "carry these bytes
and learn their fate"; it never sees an answer.  And the response transport speaks of items, not of
frames: how they are framed on its connection is its own business.

Per request the core calls only bound methods of the objects below; no hook is called after start-up.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

from reqplane.model import (
    Body,
    Capabilities,
    Change,
    ConnectionInfo,
    Control,
    Diagnosis,
    DiscoveryCapabilities,
    EndpointId,
    Headers,
    Instance,
    Limits,
    Load,
    Part,
    Peer,
    Request,
    ResponseCapabilities,
    Served,
)
from reqplane.wire.frame import Frame

Target = TypeVar("Target")


# ── what the core hands in ──────────────────────────────────────────────────────────────────────────


class Timer(Protocol):
    """A pending call; `cancel` is idempotent and harmless after it fired."""

    def cancel(self) -> None: ...


class Timers(Protocol):
    """The runtime's timer wheel: a hundred times cheaper to cancel than a task to time out."""

    def at(self, when: float, fire: Callable[[], None]) -> Timer:
        """Call `fire` at `when` (the loop's clock) or up to 20 ms later, never earlier.

        It is never called after `cancel`.  A Future's callbacks run a turn after its result was set: where
        one of them cancels, `fire` may come between.
        """
        ...


class Budget(Protocol):
    """Bytes of requests that this process may hold unfinished: being received, waiting or running."""

    def take(self, size: int) -> bool:
        """Reserve `size` bytes; False if that would be too many.  Alone, a request of any size may."""
        ...

    def give(self, size: int) -> None:
        """Return what was taken."""
        ...


class Host(Protocol):
    """What a plugin gets when it is opened: the runtime, as far as plugins may see it."""

    @property
    def env(self) -> Mapping[str, str]:
        """The settings' source.  Read it by `reqplane.settings.load`, never os.environ."""
        ...

    @property
    def limits(self) -> Limits: ...

    @property
    def process(self) -> str:
        """32 hex digits that this runtime drew at its start: tells it from every other, for ever."""
        ...

    @property
    def incarnation(self) -> int:
        """A random u63, drawn once: what this runtime's workers are known by."""
        ...

    @property
    def dynamo(self) -> bool:
        """DYN_WIRE_PROFILE=dynamo: what this process registers is in the form that NVIDIA Dynamo reads.

        A discovery backend then takes the incarnation for a worker's number, and Dynamo's key
        (`reqplane.wire.records.dynamo_key`); a request plane that Dynamo has too puts what Dynamo knows it
        by into `Listener.record`.  What others have registered is read in either form, whatever this says.
        """
        ...

    @property
    def timers(self) -> Timers: ...

    @property
    def inflight(self) -> Budget:
        """What a listener reserves for the bytes it has read of a frame, until `accept` is called: the
        core reserves for itself what it accepts.

        Where a library hands frames over whole there is nothing to reserve; bound its own queues instead.
        """
        ...

    @property
    def log(self) -> logging.Logger: ...

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[Any]:
        """Run `work` until it ends or the runtime closes; its exception is logged, not lost."""
        ...

    def advertise(self, bind_host: str, toward: str = "") -> str:
        """The address to tell others for a listener bound to `bind_host`.

        A wildcard becomes this machine's address on the way to `toward` (or to the default route);
        127.0.0.1, with a warning, where there is no route.
        """
        ...

    def ssl_context(self, role: Literal["server", "client"]) -> ssl.SSLContext | None:
        """The TLS configuration, None where TLS is off."""
        ...

    def reported(self, incarnation: int, load: Load) -> None:
        """A worker told its load."""
        ...


class Delivery:
    """A frame that arrived, as a listener hands it to `accept`.

    From the network `frame` is one bytes-like object: the bytes of `Frame.buffers`, joined.  The core checks
    it.  A Frame is for planes within one process: nothing of it is checked.
    """

    __slots__ = ("frame", "headers", "peer", "plane")

    def __init__(self, frame: Body | Frame, headers: Headers, plane: str, peer: Peer | None = None) -> None:
        self.frame = frame
        self.headers = headers
        self.plane = plane
        self.peer = peer


class Accept(Protocol):
    """The core's side of a listener; one for each endpoint."""

    def __call__(self, delivery: Delivery) -> None:
        """Check the frame's head and schedule the handler.  Returns before the handler runs.

        The transport acknowledges when this returns.  RequestRefused: the transport carries its `code`
        and text back where it can.  Any other exception, CancelledError too, is a defect of the core: log
        it, refuse with the code `refused` and a text, and go on serving.
        """
        ...


# ── the request plane ───────────────────────────────────────────────────────────────────────────────


class Listener(ABC):
    """One endpoint being served by one request transport."""

    @abstractmethod
    def record(self, instance_id: int) -> Mapping[str, Any]:
        """This plane's part of the record's `transport`: {key: JSON value}, with a key of the plane's own.

        Keys that NVIDIA Dynamo knows, and what it expects there, are in `wire.records.DYNAMO_TRANSPORTS`.
        Pure; asked again when the instance id changes.  What people are shown as the address is the value
        if it is a text, or else a mapping's first text: begin with host:port, or with a URL.
        """

    @abstractmethod
    async def drain(self) -> None:
        """Return when the ack of every frame that was accepted is on the wire.

        The core refuses new frames by then; the listener goes on handing them to `accept`.  The process may
        be gone right afterwards, so what only stands in a library's queue is not on the wire yet.  It is
        cancelled when `Limits.drain_timeout`, which running handlers share, is over.
        """

    @abstractmethod
    async def close(self) -> None:
        """Stop serving this endpoint; idempotent.  The last listener's close frees the address.

        The core waits for it without a limit, so it sets its own: a few seconds at most.
        """


class RequestTransport(ABC, Generic[Target]):
    """Carries request frames from frontends to workers.

    `Target` is whatever the transport needs to send to one worker: made once for each record, then
    handed to each `send`.
    """

    name: ClassVar[str]
    """The value of DYN_REQUEST_PLANE that chooses it."""
    capabilities: ClassVar[Capabilities]
    settings: ClassVar[type[Any] | None] = None
    """The dataclass of this plugin's settings, if it has any: checked together with all others."""
    loopback: ClassVar[Mapping[str, str]] = {}
    """Variables by which it stays on this machine, at any free port: for trials.  A variable whose name ends
    with PORT and whose value is 0 may get a port's number instead."""

    @classmethod
    @abstractmethod
    async def open(cls, host: Host) -> Self:
        """Make it ready to send; connect here if the plane needs a connection.  Listens on nothing."""

    @property
    @abstractmethod
    def max_frame_bytes(self) -> int:
        """The largest frame that `send` carries; one byte more is FrameTooLarge."""

    @abstractmethod
    def target(self, instance: Instance) -> Target | None:
        """How to reach this worker, or None if its record does not speak of this plane.  Pure.

        It stands for an address and an endpoint there, not for a process: another worker of the endpoint may
        have the address by now, and need not be told apart.  A request for one certain instance says so
        itself, and the core refuses it elsewhere (WrongInstance).
        """

    def address(self, target: Target) -> str | None:
        """Where that is, if others may be there too: workers with one address are behind one balancer.

        None: nobody else is there at the same time.  Pure.
        """
        return None

    @abstractmethod
    def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> Awaitable[None]:
        """Deliver the frame; done at the worker's ack.

        An `async def` will do; returning a Future spares a task for each request.  `deadline` is on the
        loop's clock (`model.NEVER` = none); the wait is bounded by it and by the plugin's own ack
        time-out, whichever is earlier.  `frame.buffers` may be sent one after the other.  Raises only, at
        the call or when awaited:

        - NotDelivered (CannotConnect, FrameTooLarge): surely not accepted, and never will be;
        - RequestRefused: a worker said no, with its code;
        - DeliveryUnknown: anything else, a time-out among them.

        At the deadline, or after it, it is DeliveryUnknown("timed_out", ...), or CannotConnect where nothing
        was sent: the caller gets DeadlineExceeded either way.

        A call cancels it when its caller leaves or the deadline passes, and not when the worker's
        call-home comes before the ack.  Cancelling must not leak a stream, a task or a connection.
        """

    @abstractmethod
    async def listen(self, served: Served, accept: Accept) -> Listener:
        """Serve one more endpoint, on the process's one address for this plane.

        The first call opens the address.  When it returns, a frame sent there arrives.  SettingsError
        names the variable of an address that can't be used.
        """

    async def diagnose(self) -> Sequence[Diagnosis]:
        """How the servers are that this depends on: `reqplane doctor` asks once, after `open`.

        Takes 3 s at most.  What is WRONG keeps the doctor from sending by this plane.
        """
        return ()

    @abstractmethod
    async def aclose(self) -> None:
        """Free everything, the listeners too; idempotent.  Afterwards `send` raises CannotConnect.

        What is being sent ends at once, by DeliveryUnknown, or CannotConnect where nothing was sent yet.
        """


# ── the response plane ──────────────────────────────────────────────────────────────────────────────


class PendingStream(ABC):
    """The frontend's end of one attempt's answer; and of its request, where that is itself a stream."""

    __slots__ = ()

    info: ConnectionInfo
    """What the request's head tells the worker.  It has a `request` where the stream was expected with
    sends=True."""
    opened: asyncio.Future[None]
    """Done when the worker has called home: as good as an ack.  Cancelled by `close` before that; never
    holds another exception."""
    enveloped: bool
    """Known once opened.  True: each body is the Dynamo envelope (reqplane.wire.response)."""

    @abstractmethod
    async def receive(self) -> list[Part]:
        """All that has come since the last call, in order; waits until there is something.

        bytes or a bytearray is a plain item.  After End or Broken nothing more comes; asked again all the
        same, it gives Broken.
        """

    @abstractmethod
    def stop(self) -> None:
        """Ask the handler to finish early, now or when it calls home; what it still writes is received."""

    @abstractmethod
    def kill(self) -> None:
        """Let the handler give up, now or when it calls home.  `receive` gives what came, then Broken."""

    @abstractmethod
    def close(self) -> None:
        """Nobody reads any more.  A worker that calls home later is killed; a waiting `receive` gets
        Broken.  Synchronous and idempotent, like `stop` and `kill`."""

    # ── a request that is itself a stream: `expect(sends=True)` ──

    def write(self, item: Body) -> bool:
        """Send one item of the request.  False: it was taken, but await `ready()` before the next.

        What is written before the worker has called home goes out when it does.  FrameTooLarge: it was not
        taken.  A stream that is over sends nothing, and gives False.
        """
        raise TypeError("this stream was not expected with sends=True")

    async def ready(self) -> bool:
        """Wait until the worker has caught up.

        False: no more is wanted, since the answer has ended, or the stream is closed or broken.
        """
        raise TypeError("this stream was not expected with sends=True")

    def end(self) -> None:
        """The request is whole.  Without this the handler's `receive` gives Broken, never End."""
        raise TypeError("this stream was not expected with sends=True")


class HomeStream(ABC):
    """The worker's end: what the handler's items are written to."""

    __slots__ = ()

    enveloped: bool
    """True: the core wraps each body in the Dynamo envelope."""

    @abstractmethod
    def prologue(self, error: str | None) -> None:
        """The handler starts, or (`error`) can't be; then nothing else follows."""

    @abstractmethod
    def write(self, body: bytes, annotated: bool = False) -> bool:
        """Send one item.  False: it was taken, but await `ready()` before the next.

        FrameTooLarge: it was not taken.  A stream that is over takes everything and sends nothing.
        """

    @abstractmethod
    async def ready(self) -> None:
        """Wait until the frontend has caught up, or is gone."""

    @abstractmethod
    def end(self, body: bytes = b"") -> None:
        """The answer is whole.  `body`: a load report where the stream is not enveloped."""

    @abstractmethod
    def abort(self) -> None:
        """Give the stream up without an end marker: the frontend sees it broken.  Idempotent."""

    async def receive(self) -> list[Part]:
        """What has come of a request that is itself a stream: items, then End, or Broken if it is not whole.

        As `PendingStream.receive`; what the last call gave has been consumed by then.  Where the info has no
        `request`, TypeError.
        """
        raise TypeError("this request is not a stream")


class ResponseTransport(ABC):
    """Carries answers from workers to frontends: the frontend listens, workers call home."""

    name: ClassVar[str]
    capabilities: ClassVar[ResponseCapabilities] = ResponseCapabilities()
    settings: ClassVar[type[Any] | None] = None
    loopback: ClassVar[Mapping[str, str]] = {}
    """Variables by which it stays on this machine, at any free port; as a RequestTransport's."""
    advertised: str
    """host:port of this process's listener; "" while nothing has needed it."""

    @classmethod
    @abstractmethod
    async def open(cls, host: Host) -> Self:
        """Make it ready; the listener may wait until `listen`."""

    @abstractmethod
    async def listen(self) -> None:
        """Open the listener if it is not open yet.  SettingsError names the variable of a bad address."""

    @abstractmethod
    def expect(self, request_id: str, *, sends: bool = False) -> PendingStream:
        """Reserve a subject for one attempt.  No I/O.

        `sends`: the request is itself a stream; TypeError where the capabilities do not say
        `streamed_requests`.
        """

    @abstractmethod
    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeStream:
        """Connect to the frontend (or use a connection there is) and open the request's stream.

        `control` is called on the loop with STOP, KILL or GONE.  Where `info.request` says that the request
        is itself a stream, its items are to be had from the HomeStream.  Raises CannotConnect.
        """

    def objection(self, info: ConnectionInfo) -> str | None:
        """Why this worker will not call home there, where that can be told at once; asked for each request.

        None: it may try.
        """
        return None

    @abstractmethod
    def report(self, load: Load) -> None:
        """Tell this worker's load to every frontend that it is connected to."""

    @abstractmethod
    async def aclose(self) -> None:
        """Free everything; idempotent."""


# ── discovery ───────────────────────────────────────────────────────────────────────────────────────


class Registration(ABC):
    """One worker's place in discovery: a number first, then its record."""

    instance_id: int
    lost: asyncio.Future[None]
    """Done when the registration ended without `withdraw`; a new one after `renew`."""

    @abstractmethod
    async def publish(self, record: Mapping[str, Any]) -> None:
        """Let everybody see the record; the next one replaces it.

        LeaseLost if the number is not this worker's any more, WireError for a record that is no JSON or too
        large (`encode_record` raises it); what was published before stays then.
        """

    @abstractmethod
    async def withdraw(self) -> None:
        """Take the record away and free the number; idempotent."""

    @abstractmethod
    async def renew(self) -> None:
        """After `lost`: take a number again; `instance_id` may be another one."""


class Discovery(ABC):
    """Where workers register and frontends find them.

    It keeps records as they are handed to `Registration.publish`.  `reqplane.wire.records` makes bytes of
    them (`encode_record`), and of a key and bytes again the Instance that a Change holds (`guide_key`,
    `parse_record`).
    """

    name: ClassVar[str]
    """The value of DYN_DISCOVERY_BACKEND that chooses it."""
    capabilities: ClassVar[DiscoveryCapabilities] = DiscoveryCapabilities()
    settings: ClassVar[type[Any] | None] = None
    loopback: ClassVar[Mapping[str, str]] = {}
    """Variables by which it disturbs nobody, and has short leases: for trials.  {folder} in a value is
    where an empty folder's path goes."""
    where: str = ""
    """What messages call the place, such as "the folder /tmp/x"; "" if there is no better word."""

    @property
    def place(self) -> str:
        """`where`, or else the backend's name."""
        return self.where or f"the {self.name} backend"

    @classmethod
    @abstractmethod
    async def open(cls, host: Host) -> Self:
        """DiscoveryUnavailable if it can't be used at all."""

    @abstractmethod
    async def reserve(self, endpoint: EndpointId, incarnation: int) -> Registration:
        """Take the lowest free number of the endpoint, or the incarnation itself where `Host.dynamo` is set;
        nobody sees it before `publish`."""

    @abstractmethod
    def watch(self, endpoint: EndpointId | None) -> AsyncIterator[list[Change]]:
        """Follow one endpoint, or all.  The first batch is what there is, and comes even if that is nothing.

        A new record of a worker is one more Change that is `up`.  When this ends or raises it is called
        again a moment later, and what its first batch does not hold counts as gone.
        """

    async def diagnose(self) -> Sequence[Diagnosis]:
        """How the servers are that this depends on: `reqplane doctor` asks once, after `open`.

        Takes 3 s at most.  What is WRONG keeps the doctor from asking it for workers.
        """
        return ()

    @abstractmethod
    async def aclose(self) -> None:
        """Withdraw what is registered, end all watches and free everything; idempotent.

        Afterwards `withdraw` does nothing, `watch` ends at once, and all else is a DiscoveryError.
        """


# ── codecs, policies, observers ─────────────────────────────────────────────────────────────────────


class PayloadCodec(ABC):
    """Values to bytes and back.  Made without arguments; one instance serves the whole runtime.

    A codec other than json and msgpack works between peers that share a response connection: all of ours.
    """

    name: ClassVar[str]
    """What a record announces and a request's head says: the value of DYN_REQUEST_PLANE_CODEC."""

    @abstractmethod
    def encode(self, value: Any) -> bytes:
        """PayloadError if the value can't be carried."""

    @abstractmethod
    def decode(self, data: Body) -> Any:
        """PayloadError if the bytes are not this codec's, or would become more than this process can hold.

        They are bytes, a bytearray or a memoryview of either.
        """


Outcome = Literal["done", "failed", "refused", "unreachable", "unknown", "left"]


class RouterPolicy(ABC):
    """Picks a worker.  One object for each client; nothing here may be O(workers) for each request."""

    name: ClassVar[str]
    """The value of DYN_ROUTER_MODE that chooses it."""
    settings: ClassVar[type[Any] | None] = None
    """The dataclass of its settings, if it has any: checked together with all others."""

    @classmethod
    def create(cls, endpoint: EndpointId, host: Host) -> Self:
        """Make one for a client of this endpoint."""
        return cls()

    @abstractmethod
    def changed(self, added: Iterable[Instance], removed: Iterable[Instance]) -> None:
        """The workers that can be reached changed; the first time, those that there are.

        One that is removed and added at once has a new record; `incarnation` tells that it is the same.
        """

    @abstractmethod
    def pick(self, request: Request, avoid: AbstractSet[int]) -> Instance | None:
        """One worker whose incarnation is not in `avoid` (those tried already), or None if there is none."""

    def started(self, instance: Instance) -> None:  # noqa: B027
        """A request goes to this worker now."""

    def finished(self, instance: Instance, outcome: Outcome) -> None:  # noqa: B027
        """It is over, however it ended; once for each `started`."""

    def reported(self, instance: Instance, load: Load) -> None:  # noqa: B027
        """The worker told its load."""


class Observer:
    """Looks on.  All methods are optional and must be quick; none is called for an item."""

    def call_started(self, request_id: str, instance: Instance, plane: str) -> None:
        """A frontend sends a request to this worker; again for another attempt."""

    def call_finished(self, request_id: str, items: int, error: BaseException | None) -> None:
        """A call ended; `error` is what its caller gets."""

    def handler_started(self, request_id: str, endpoint: EndpointId) -> None:
        """A worker's handler starts."""

    def handler_finished(self, request_id: str, items: int, error: BaseException | None) -> None:
        """It ended."""

    def close(self) -> None:
        """The runtime that made it is closed: free what is held.  Nothing else is called after this."""
