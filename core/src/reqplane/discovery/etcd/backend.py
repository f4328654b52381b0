"""The etcd backend as the runtime sees it, on its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Self

from reqplane.discovery.etcd.client import CALL_LIMIT, FIRST_LIMIT, EtcdClient
from reqplane.discovery.etcd.jobs import Job
from reqplane.discovery.etcd.known import Known
from reqplane.discovery.etcd.look import diagnose
from reqplane.discovery.etcd.registry import Place, Registry
from reqplane.discovery.etcd.seam import Client, Denied
from reqplane.discovery.etcd.sessions import Sessions
from reqplane.discovery.etcd.settings import EtcdSettings
from reqplane.discovery.watches import Watch
from reqplane.errors import DiscoveryUnavailable, LeaseLost, SettingsError
from reqplane.interfaces import Discovery, Host, Registration
from reqplane.model import Change, Diagnosis, DiscoveryCapabilities, EndpointId
from reqplane.settings import load
from reqplane.wire.records import encode_record, parse_record, record_key

_OPEN = 3.0
"""Seconds that opening waits for etcd; then it goes on without."""
_FIRST = 2.0
"""Seconds more that the first to ask for a listing waits, where opening waited in vain."""
_PATIENCE = 30.0
"""Seconds that a worker waits for etcd before it gives up."""
_REMINDER = 5.0
"""Seconds between two warnings meanwhile, and until a frontend is told that there is no listing."""


class EtcdRegistration(Registration):
    """A number in etcd."""

    def __init__(self, owner: EtcdDiscovery, endpoint: EndpointId, incarnation: int) -> None:
        self._owner, self._endpoint, self._incarnation = owner, endpoint, incarnation
        self._place: Place | None = None

    async def take(self, first: int | None = None) -> None:
        self.lost = lost = asyncio.get_running_loop().create_future()

        def fallen() -> None:  # in etcd's thread
            self._owner.tell_loop(_settle, lost)

        def work(client: Client, registry: Registry) -> Place:
            return registry.take(client, self._endpoint, self._incarnation, first, fallen)

        place: Place = await self._owner.ask(work, undo=self._owner.give_back)
        self._place, self.instance_id = place, place.number

    async def publish(self, record: Mapping[str, Any]) -> None:
        key = record_key(self._endpoint, self.instance_id, dynamo=self._owner.dynamo)
        content = encode_record(record)
        parse_record(key, content)  # what readers would skip is refused here
        place = self._place
        if place is None:
            raise LeaseLost(f"{key} was withdrawn")
        await self._owner.ask(lambda client, registry: registry.publish(client, place, content))

    async def withdraw(self) -> None:
        place, self._place = self._place, None
        if place is not None and not self._owner.is_closed:
            await self._owner.ask(lambda client, registry: registry.withdraw(client, place), lasting=True)

    async def renew(self) -> None:
        await self.withdraw()
        await self.take(first=self.instance_id)


class EtcdDiscovery(Discovery):
    """All processes that have the same etcd see each other; all should have the same TTL."""

    name = "etcd"
    capabilities = DiscoveryCapabilities(processes=True, leases=True, reconnects=True, foreign=True)
    settings = EtcdSettings
    loopback: ClassVar[Mapping[str, str]] = {"ETCD_LEASE_TTL": "3"}

    def __init__(self, host: Host, settings: EtcdSettings) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._log = host.log
        self.where = settings.where
        self.dynamo = host.dynamo
        self.is_closed = False
        self._watches: set[Watch] = set()
        self._known = Known()
        self._listed = asyncio.Event()
        self._patience = _REMINDER  # of the next one to wait for the first listing
        self._closing = asyncio.Lock()
        self._closed = False

        def connect(number: int, failures: int) -> EtcdClient:
            members = settings.endpoints
            is_hurried = failures < len(members) - 1  # there is another to go to
            address = members[number % len(members)]
            limit = FIRST_LIMIT if is_hurried else CALL_LIMIT
            return EtcdClient(address, settings, limit, is_curious=not self._listed.is_set())

        registry = Registry(settings.ttl, host.incarnation if host.dynamo else None)
        self._sessions = Sessions(connect, settings.ttl, self, self.where, host.log, registry)

    @classmethod
    async def open(cls, host: Host) -> Self:
        settings = load(EtcdSettings, host.env)
        settings.check()
        discovery = cls(host, settings)
        discovery._sessions.start()
        try:
            async with asyncio.timeout(_OPEN):
                await asyncio.shield(asyncio.wrap_future(discovery._sessions.first))
        except TimeoutError:
            why = discovery._why()
            discovery._patience = _FIRST
            host.log.warning("%s can't be reached yet, going on without: %s", discovery.where, why)
        except Denied as error:
            await discovery.aclose()
            if error.variable:
                value = settings.shown(error.variable)
                raise SettingsError([(error.variable, value, f"{cls.name}: {error.reason}")]) from None
            raise DiscoveryUnavailable(error.reason) from None
        except BaseException:
            await discovery.aclose()
            raise
        return discovery

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────

    async def ask(
        self,
        work: Callable[[Client, Registry], Any],
        *,
        lasting: bool = False,
        undo: Callable[[Any], None] | None = None,
    ) -> Any:
        """Have it done in etcd's thread; DiscoveryUnavailable if there is no etcd for too long."""
        if self.is_closed:
            raise DiscoveryUnavailable("this discovery backend is closed")
        job = Job(work, lasting, undo)
        self._sessions.ask(job)
        try:
            return await self._answer(job)
        except (asyncio.CancelledError, DiscoveryUnavailable):
            job.abandon()
            raise

    async def _answer(self, job: Job) -> Any:
        answer = asyncio.wrap_future(job.answer)
        for waited in range(0, int(_PATIENCE), int(_REMINDER)):
            done, _ = await asyncio.wait([answer], timeout=_REMINDER)
            if done:
                return answer.result()
            so_far = waited + _REMINDER
            self._log.warning("still waiting for %s after %g s: %s", self.where, so_far, self._why())
        raise DiscoveryUnavailable(
            f"{self.where} can't be reached, tried for {_PATIENCE:g} s: {self._why()}; "
            f"set ETCD_ENDPOINTS to where etcd is"
        )

    def _why(self) -> str:
        return self._sessions.state or "it does not get it done"

    def give_back(self, place: Place) -> None:
        """Nobody waited for it any more.  Called in etcd's thread."""
        self._sessions.ask(Job(lambda client, registry: registry.withdraw(client, place), lasting=True))

    # ── registering ─────────────────────────────────────────────────────────────────────────────────

    async def reserve(self, endpoint: EndpointId, incarnation: int) -> EtcdRegistration:
        registration = EtcdRegistration(self, endpoint, incarnation)
        await registration.take()
        return registration

    # ── watching ────────────────────────────────────────────────────────────────────────────────────

    async def watch(self, endpoint: EndpointId | None) -> AsyncGenerator[list[Change], None]:
        if self.is_closed:
            return
        watch = Watch(endpoint)
        self._watches.add(watch)
        try:
            if self._listed.is_set():
                watch.put(self._known.listing(self._loop.time()))
            else:
                await self._first_listing()
            while (batch := await watch.take()) is not None:
                yield batch
        finally:
            self._watches.discard(watch)

    async def _first_listing(self) -> None:
        patience, self._patience = self._patience, _REMINDER
        try:
            async with asyncio.timeout(patience):
                await self._listed.wait()
        except TimeoutError:
            raise DiscoveryUnavailable(
                f"{self.where} can't be reached: {self._why()}; set ETCD_ENDPOINTS to where etcd is"
            ) from None

    def changed(self, changes: list[Change], listed: bool) -> None:
        """Called in etcd's thread."""
        self.tell_loop(self._deliver, changes, listed)

    def _deliver(self, changes: list[Change], listed: bool) -> None:
        self._known.follow(changes, self._loop.time())
        for watch in self._watches:
            watch.put(changes)
        if listed:
            self._listed.set()

    def tell_loop(self, call: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(call, *args)

    async def diagnose(self) -> list[Diagnosis]:
        return await diagnose(self._settings)

    # ── closing ─────────────────────────────────────────────────────────────────────────────────────

    async def aclose(self) -> None:
        self.is_closed = True
        for watch in self._watches:
            watch.close()
        self._listed.set()
        async with self._closing:
            if not self._closed:
                await asyncio.shield(asyncio.to_thread(self._sessions.stop))
                self._closed = True


def _settle(lost: asyncio.Future[None]) -> None:
    if not lost.done():
        lost.set_result(None)
