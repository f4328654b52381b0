"""The live table of one endpoint's workers, fed by discovery: who can be reached, and how.

Everything that depends only on a worker's record (its routes, its codec) is worked out here, once, when
the record arrives; a call only looks it up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from reqplane.errors import DiscoveryError, DiscoveryUnavailable, ReqplaneError, describe
from reqplane.interfaces import Discovery, PayloadCodec, RequestTransport, RouterPolicy, Timer, Timers
from reqplane.model import Change, EndpointId, Instance, Load
from reqplane.wire.dialect import Dialect, EnvelopedDialect

log = logging.getLogger("reqplane")

_LOOK_AROUND = 1.0
"""Seconds to ask discovery what else there is, for a message."""
_RETRY_PAUSE = 0.25
"""Seconds before a watch that failed is started again."""
_REST = 8.0
"""How many times as long as it took to find out that a route doesn't connect, it is not the first choice."""


class Route:
    """One way to a worker: a plane and what it needs to send there."""

    __slots__ = (
        "_rest",
        "_rests_until",
        "address",
        "carries_headers",
        "plane",
        "target",
        "transport",
    )

    def __init__(self, transport: RequestTransport[Any], target: Any) -> None:
        self.transport = transport
        self.target = target
        self.plane = transport.name
        self.address = transport.address(target)
        self.carries_headers = transport.capabilities.headers
        self._rest = self._rests_until = 0.0

    def failed(self, since: float, now: float) -> None:
        """It could not connect, in an attempt that began at `since`."""
        self._rest = (now - since) * _REST
        self._rests_until = now + self._rest

    def worked(self) -> None:
        self._rest = 0.0

    def rests(self, now: float) -> bool:
        """Whether others should be tried first, so that not every request waits for a port that is closed.

        When its rest is over one request finds out, and the next ones need not wait for that either.
        """
        if not self._rest:
            return False
        if now < self._rests_until:
            return True
        self._rests_until = now + self._rest
        return False


def _route(transport: RequestTransport[Any], instance: Instance) -> Route | None:
    """How this plane reaches the worker; a record that the plane can't digest harms only itself."""
    try:
        target = transport.target(instance)
        return None if target is None else Route(transport, target)
    except Exception:
        log.exception("%s can't read the record of %s, which it leaves out", transport.name, instance.label)
        return None


class Worker:
    """A worker that can be reached: its instance, its routes in order of preference, its dialect."""

    __slots__ = ("codec", "dialect", "instance", "routes")

    def __init__(self, instance: Instance, routes: Sequence[Route], codec: PayloadCodec) -> None:
        self.instance = instance
        self.routes = routes
        self.codec = codec
        self.dialect = Dialect(codec.name, codec)

    def addresses(self) -> set[str]:
        """Where its planes reach it, as far as others may be there too."""
        return {route.address for route in self.routes if route.address is not None}

    def ways(self, clock: Callable[[], float]) -> Iterable[Route]:
        """Its routes in the order in which they are to be tried."""
        return self.routes if len(self.routes) == 1 else self._rested_first(clock)

    def _rested_first(self, clock: Callable[[], float]) -> Iterator[Route]:
        resting: list[Route] = []
        for route in self.routes:
            if route.rests(clock()):
                resting.append(route)
            else:
                yield route
        yield from resting

    def enveloped(self) -> Dialect:
        """The dialect for a stream that turned out to have envelopes."""
        return EnvelopedDialect(self.codec.name, self.codec)


class InstanceTable:
    """Follows one endpoint, and tells router policies of every worker that can be reached."""

    def __init__(
        self,
        endpoint: EndpointId,
        discovery: Discovery,
        transports: Sequence[RequestTransport[Any]],
        codecs: Mapping[str, PayloadCodec],
        timers: Timers,
    ) -> None:
        self.endpoint = endpoint
        self._path = str(endpoint)
        self._timers = timers
        self._policies: list[RouterPolicy] = []
        self._hears_reports: list[RouterPolicy] = []
        self._discovery = discovery
        self._transports = transports
        self._codecs = codecs
        self._unusable: dict[int, str] = {}  # why not, for messages
        self._workers: dict[int, Worker] = {}
        self._by_id: dict[int, Worker] = {}
        self._at: Counter[str] = Counter()  # how many workers have an address
        self._held: dict[int, Timer] = {}  # gone, if discovery is right
        self._has_listing = False
        self._trouble: asyncio.Future[DiscoveryError | None] | None = None
        self._closed = False  # nobody follows any more
        self._changed: asyncio.Future[None] | None = None

    # ── following ──

    async def follow(self) -> None:
        """Keep the table up to date until cancelled; a watch that fails is started again."""
        while True:
            stale = {key: worker.instance for key, worker in self._workers.items()}
            self._unusable.clear()
            try:
                first = True
                async for changes in self._discovery.watch(self.endpoint):
                    if first:  # a listing: what it does not hold is gone
                        held = {change.instance.incarnation for change in changes if change.up}
                        gone = [Change(one, up=False) for key, one in stale.items() if key not in held]
                        changes, first = [*gone, *changes], False
                    self._apply(changes)
            except DiscoveryError as error:
                log.warning("following %s failed, trying again: %s", self.endpoint, error)
                self._failed(error)
            except Exception as error:
                log.exception("following %s failed, trying again", self.endpoint)
                self._failed(DiscoveryUnavailable(f"{self.where} failed: {describe(error)}"))
            await asyncio.sleep(_RETRY_PAUSE)

    def _apply(self, changes: Sequence[Change]) -> None:
        touched = [change.instance.incarnation for change in changes]
        before = {incarnation: self._workers.get(incarnation) for incarnation in touched}
        for change in changes:
            if not change.up and self._has_moved(change.instance):
                continue
            if change.hold and not change.up:
                self._hold(change)
                continue
            self._remove(change.instance.incarnation)
            if change.up and not change.instance.draining:
                self._add(change.instance)
        # What has come of it all: one that came and went within a batch was never there.
        moved = [(was, now) for key, was in before.items() if (now := self._workers.get(key)) is not was]
        if moved:
            added = [now.instance for _, now in moved if now is not None]
            removed = [was.instance for was, _ in moved if was is not None]
            for policy in self._policies:
                policy.changed(added, removed)
        self._wake()

    def _failed(self, error: DiscoveryError) -> None:
        """Whoever waits for the first listing need not wait any longer."""
        if not self._has_listing and self._trouble is not None and not self._trouble.done():
            self._trouble.set_result(error)

    def _has_moved(self, gone: Instance) -> bool:
        """Whether what is gone is only a worker's former number: it has registered again since."""
        worker = self._workers.get(gone.incarnation)
        return worker is not None and worker.instance.instance_id != gone.instance_id

    def _hold(self, change: Change) -> None:
        """Go on using a worker that may be gone: until the time is up, it comes back, or it says so."""
        incarnation = change.instance.incarnation
        if incarnation not in self._workers or incarnation in self._held:
            return
        until = asyncio.get_running_loop().time() + change.hold
        self._held[incarnation] = self._timers.at(until, lambda: self.gone(incarnation))
        log.warning(
            "%s is gone from %s, which may be wrong: it stays in use for %g s, as long as it answers",
            change.instance.label,
            self._discovery.place,
            change.hold,
        )

    def gone(self, incarnation: int) -> None:
        """Let go of a worker that was only held: it refuses connections, or says that it leaves."""
        if incarnation in self._held:
            self._apply([Change(self._workers[incarnation].instance, up=False)])

    def close(self) -> None:
        """Nobody follows any more: what waits or asks from here on gets ReqplaneError."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        """Those who wait look again."""
        self._has_listing = True
        if self._trouble is not None and not self._trouble.done():
            self._trouble.set_result(None)
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _remove(self, incarnation: int) -> None:
        self._unusable.pop(incarnation, None)
        if (held := self._held.pop(incarnation, None)) is not None:
            held.cancel()
        worker = self._workers.pop(incarnation, None)
        if worker is None:
            return
        for address in worker.addresses():
            self._at[address] -= 1
            if not self._at[address]:
                del self._at[address]
        if self._by_id.get(worker.instance.instance_id) is worker:
            del self._by_id[worker.instance.instance_id]

    def _add(self, instance: Instance) -> None:
        """Take a worker up, or note why it can't be used."""
        planes = ",".join(instance.planes) or "an unknown plane"
        codec = self._codecs.get(instance.codec)
        routes = [route for one in self._transports if (route := _route(one, instance)) is not None]
        if not routes:
            ours = {transport.name for transport in self._transports} & set(instance.planes)
            why = f"on {planes}"
            self._unusable[instance.incarnation] = (
                f"{why} with an address that can't be used" if ours else why
            )
            return
        if codec is None:
            why = f"on {planes} with the codec {instance.codec!r}, which is not installed here"
            self._unusable[instance.incarnation] = why
            return
        worker = Worker(instance, routes, codec)
        self._at.update(worker.addresses())
        self._workers[instance.incarnation] = self._by_id[instance.instance_id] = worker

    def inform(self, policy: RouterPolicy) -> None:
        """Tell a policy who there is, and from now on who comes and goes."""
        policy.changed(self.instances(), [])
        self._policies.append(policy)
        if type(policy).reported is not RouterPolicy.reported:
            self._hears_reports.append(policy)

    def reported(self, incarnation: int, load: Load) -> None:
        """A worker told its load; tell the policies that want to know."""
        worker = self._workers.get(incarnation)
        if worker is not None and load.endpoint in (None, self._path):
            for policy in self._hears_reports:
                policy.reported(worker.instance, load)

    # ── asking ──

    def worker(self, incarnation: int) -> Worker | None:
        return self._workers.get(incarnation)

    def together(self, worker: Worker, plane: str | None) -> int:
        """How many workers are where this plane reaches that one: 1, or more behind a balancer."""
        address = next((route.address for route in worker.routes if route.plane == plane), None)
        return 1 if address is None else max(self._at[address], 1)

    def by_id(self, instance_id: int) -> Worker | None:
        return self._by_id.get(instance_id)

    def instances(self) -> list[Instance]:
        """The workers that can be reached, by number."""
        return sorted((w.instance for w in self._workers.values()), key=lambda one: one.instance_id)

    def unusable(self) -> dict[str, int]:
        """How many workers of the endpoint can't be used, by why not."""
        return dict(Counter(self._unusable.values()))

    async def other_endpoints(self) -> list[str]:
        """The paths of all endpoints that discovery holds; what it can tell within a second."""
        try:
            async with asyncio.timeout(_LOOK_AROUND):
                async for changes in self._discovery.watch(None):
                    return sorted({str(change.instance.endpoint) for change in changes if change.up})
        except (DiscoveryError, TimeoutError):
            pass
        return []

    @property
    def where(self) -> str:
        """What messages call the place that workers are looked for in."""
        return self._discovery.place

    def check_open(self) -> None:
        """ReqplaneError once the runtime is closed."""
        if self._closed:
            raise ReqplaneError("the runtime that this client belongs to is closed")

    async def listed(self) -> None:
        """Wait for the first listing; DiscoveryError if the attempt to get it fails, and others go on."""
        if not self._has_listing:
            if self._trouble is None or self._trouble.done():
                self._trouble = asyncio.get_running_loop().create_future()
            error = await asyncio.shield(self._trouble)
            if error is not None:
                raise error
        self.check_open()

    async def wait_for_any(self) -> None:
        """Wait until some worker can be reached."""
        self.check_open()
        while not self._workers:
            if self._changed is None or self._changed.done():
                self._changed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._changed)
            self.check_open()
