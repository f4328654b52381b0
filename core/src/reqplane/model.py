"""The values that the core and its plugins hand to each other.  Frozen, slotted, no behaviour of note."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Headers: TypeAlias = Mapping[str, str]
"""What travels beside a request.  Names are lower-case, values visible ASCII."""

Body: TypeAlias = bytes | bytearray | memoryview
"""Encoded bytes that nobody changes any more."""

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_SCHEME = "dyn://"


@dataclass(frozen=True, slots=True)
class EndpointId:
    """Which service: `namespace.component.name`.

    The parts become file names, NATS subjects, URLs and etcd keys, so what they may hold is checked
    here, once: `[A-Za-z0-9][A-Za-z0-9_-]{0,127}`.  Dynamo's operator joins two names of Kubernetes into a
    namespace, each of up to 63 characters.
    """

    namespace: str
    component: str
    name: str

    def __post_init__(self) -> None:
        for part in (self.namespace, self.component, self.name):
            if not _PART.fullmatch(part):
                raise ValueError(
                    f"{part!r:.80} can't be part of an endpoint path: wanted 1 to 128 letters, digits, "
                    f"'_' or '-', the first a letter or digit"
                )

    @classmethod
    def parse(cls, path: str) -> EndpointId:
        """Read `ns.component.endpoint` or `dyn://ns.component.endpoint`; ValueError if it is neither."""
        parts = path.removeprefix(_SCHEME).split(".")
        if len(parts) != 3:
            raise ValueError(f"{path!r:.200} is not an endpoint path: wanted namespace.component.endpoint")
        return cls(*parts)

    def __str__(self) -> str:
        return f"{self.namespace}.{self.component}.{self.name}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One worker of one endpoint, as discovery tells of it.

    `instance_id` names its slot (0, 1, 2 … or, from Dynamo, a lease id) and may be used again by another
    worker; `incarnation` is drawn at random by the worker's process and never is.  `transport` is the
    record's member of that name: how each plane reaches the worker.  `codec` is what requests are
    encoded in.  `planes` names the planes that the record speaks of.  `version` is that of the worker's
    reqplane and `started` when it began to serve, in seconds since 1970 by its own clock; None where the
    record does not say.  `shared` says that this is an address, a balancer's perhaps, and not one worker:
    who answers there may be another one each time.  `draining`: it is leaving, and takes nothing new.
    `dynamo`: it is NVIDIA Dynamo's own, which may tell of its `device_type`, such as `cuda`.
    """

    endpoint: EndpointId
    instance_id: int
    incarnation: int
    transport: Mapping[str, Any]
    codec: str = "json"
    planes: tuple[str, ...] = ()
    capacity: int | None = None
    version: str | None = None
    started: float | None = None
    shared: bool = False
    draining: bool = False
    dynamo: bool = False
    device_type: str | None = None

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{self.endpoint}/{self.instance_id}"


@dataclass(frozen=True, slots=True)
class Change:
    """A worker that appeared (`up`) or went (not `up`).

    `hold` belongs to one that went: for so many seconds discovery is not sure of it, having just been cut
    off perhaps.  The worker stays in use for them, unless it says itself that it leaves, or refuses
    connections.
    """

    instance: Instance
    up: bool
    hold: float = 0.0


@dataclass(frozen=True, slots=True)
class Served:
    """What a listener serves: one endpoint of this process.

    `response_address` is where this process's own response listener can be called, host:port; a plane
    whose record speaks of it writes it there.  `alone`: no other plane serves it; a plane that needs a
    server which can't be reached waits for it then, and else joins in when it is there.
    """

    endpoint: EndpointId
    incarnation: int
    instance_id: int
    response_address: str
    alone: bool = True


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a request transport promises.  The core relies on it, the conformance suite checks it.

    `headers`: carries headers beside the frame, so the core need not put them into the frame's head.
    `refusals`: a refusal arrives as RequestRefused with its code; without it, as DeliveryUnknown.
    `shared_address`: several workers may be behind one address (a balancer), so a frame may reach
    another instance than the one it was sent to.
    `notices_dead_worker`: a `send` to a worker that is gone fails without waiting for its time-out; one that
    was under way when it went may wait.
    `reconnects`: works again by itself when its broker or the worker is back.
    """

    headers: bool = False
    refusals: bool = False
    shared_address: bool = False
    notices_dead_worker: bool = False
    reconnects: bool = False


@dataclass(frozen=True, slots=True)
class ResponseCapabilities:
    """What a response transport promises beyond what every one must do.

    `shared_connection`: all streams between two processes go over one connection.
    `credit`: a stream whose reader is slow is held back alone, the others on its connection go on.
    `heartbeats`: a peer that is silent for `Limits.stream_dead_after` counts as gone.
    `reports`: carries load reports.
    `streamed_requests`: `expect(sends=True)`, so that a request may be a stream itself.
    """

    shared_connection: bool = False
    credit: bool = False
    heartbeats: bool = False
    reports: bool = False
    streamed_requests: bool = False


@dataclass(frozen=True, slots=True)
class DiscoveryCapabilities:
    """What a discovery backend promises beyond what every one must do.

    `registers`: workers register by it; without it, it only tells what somebody else has written.
    `processes`: processes see each other by it, not only the runtimes of one event loop.
    `leases`: the record of a worker that vanished without a word goes after a while.
    `reconnects`: works again by itself when its server is back.
    `foreign`: tells also of records that others have put there, under a key of either layout
    (`reqplane.wire.records`), and leaves out what is no record.
    """

    registers: bool = True
    processes: bool = False
    leases: bool = False
    reconnects: bool = False
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that plugins keep.  Bytes and seconds."""

    max_frame_bytes: int = 32 * 1024 * 1024
    stream_window_bytes: int = 262_144
    heartbeat: float = 1.0
    stream_dead_after: float = 30.0
    call_home_timeout: float = 5.0
    drain_timeout: float = 30.0
    max_inflight_bytes: int = 512 * 1024 * 1024
    max_running: int = 10_000


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a request, as far as the transport knows: its network address, for logs and rules.

    host or host:port, as far as the network's library tells.
    """

    address: str


@dataclass(frozen=True, slots=True)
class SharedOffer:
    """The frontend offers a shared response connection: its process (32 hex) and the stream window.

    `max_frame` is the largest item in bytes that it takes; None = it does not say.
    """

    process: str
    window: int
    version: int = 1
    max_frame: int | None = None


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """Where and as what a worker calls home: the member `info` of a request's head.

    `address` is host:port (`[v6]:port` too), `subject` a uuid that belongs to one attempt of one
    request, `context` the request's id.  `request`: the request is itself a stream, and a worker that knows
    no shared connection calls home there too, for its items; None for a single request.
    """

    address: str
    subject: str
    context: str
    shared: SharedOffer | None = None
    request: ConnectionInfo | None = None


# ── a response, seen from the frontend: plain items are bytes, these are the rest ────────────────────


@dataclass(frozen=True, slots=True)
class Prologue:
    """The handler starts (`error` is None) or could not be started."""

    error: str | None = None


@dataclass(frozen=True, slots=True)
class Annotated:
    """An item with more than data, still encoded: {"data"?, "event"?, "comment"?, "id"?, "error"?}."""

    body: Body


@dataclass(frozen=True, slots=True)
class End:
    """The answer is whole.  `report` is the worker's load, JSON, or empty."""

    report: Body = b""


@dataclass(frozen=True, slots=True)
class Broken:
    """No more will come and the answer is not whole."""

    reason: str


Event: TypeAlias = Prologue | Annotated | End | Broken

Part: TypeAlias = bytes | bytearray | Event
"""What a response consists of: a plain item is its bytes, so that it costs nothing more."""


class Control(enum.Enum):
    """What a frontend tells a running handler's stream."""

    STOP = "stop"
    """Finish early, politely."""
    KILL = "kill"
    """Give up at once: nobody reads the answer."""
    GONE = "gone"
    """The connection is lost; nothing that is written arrives."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker has to do: requests running, waiting, and how many it may run (None = unbounded).

    `endpoint` is the path of the endpoint that is meant, where the worker's process serves several; None =
    the only one.
    """

    running: int
    queued: int
    capacity: int | None = None
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a router policy gets to see of a call.

    Where the request is a stream `payload` is the iterable of its items, to be left alone.
    """

    payload: Any
    headers: Headers = field(default_factory=dict[str, str])


NEVER = math.inf
"""The deadline of a call that has none, on the loop's clock."""


# ── what a plugin says to those who look for a fault ────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that a plugin depends on, such as a server, and how it is: for `reqplane doctor`.

    `remedy` says what to do about what is WRONG, `commands` are whole lines for a shell that do it.
    """

    verdict: Literal["ok", "note", "WRONG"]
    what: str
    remedy: str = ""
    commands: tuple[str, ...] = ()
