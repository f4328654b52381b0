"""Discovery by a folder that workers and frontends share: no server needed.

What lies there, and why, is told in `slots`; who counts as alive in `scan`.  Everything that touches the
disk runs in a thread, so a slow disk never holds up the event loop; and the heartbeat has a thread of its
own, so a handler that holds up the loop does not cost the worker its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ClassVar, Self, TypeVar

from reqplane.discovery.scan import Scan
from reqplane.discovery.slots import DYNAMO_TTL, Folder, Slot, reserve, reserve_own
from reqplane.discovery.ticker import Ticker
from reqplane.discovery.watches import Watch
from reqplane.errors import DiscoveryUnavailable, LeaseLost, describe
from reqplane.interfaces import Discovery, Host, Registration
from reqplane.model import Change, DiscoveryCapabilities, EndpointId
from reqplane.settings import FileSettings, load
from reqplane.wire.records import encode_record, parse_record, record_key

T = TypeVar("T")

_PERIOD = 0.2
"""Seconds between two looks at the folder."""


class FileRegistration(Registration):
    """A number in the folder."""

    def __init__(self, owner: FileDiscovery, endpoint: EndpointId, slot: Slot) -> None:
        self._owner, self._endpoint = owner, endpoint
        self._hold(slot)

    def _hold(self, slot: Slot) -> None:
        self._slot = slot
        self.instance_id = slot.number
        self.lost = asyncio.get_running_loop().create_future()
        self.stands = True
        self._owner.registered[slot] = self

    async def publish(self, record: Mapping[str, Any]) -> None:
        key = record_key(self._endpoint, self.instance_id, dynamo=self._owner.dynamo)
        content = encode_record(record)
        parse_record(key, content)  # what readers would skip is refused here
        if not self.stands:
            raise LeaseLost(f"{key} is not this worker's any more")
        await self._owner.run(self._slot.write, content)

    async def withdraw(self) -> None:
        if self._owner.registered.pop(self._slot, None):
            await self._owner.run(self._slot.free)

    async def renew(self) -> None:
        await self.withdraw()
        self._hold(await self._owner.take(self._endpoint, first=self.instance_id))

    def fall(self, slot: Slot) -> None:
        """The heartbeat found that the place is not ours any more."""
        if slot is not self._slot or slot not in self._owner.registered:
            return  # it was withdrawn or renewed before this reached the loop
        self.stands = False
        if not self.lost.done():
            self.lost.set_result(None)


class FileDiscovery(Discovery):
    """All processes that have the same folder see each other; all should have the same TTL."""

    name = "file"
    capabilities = DiscoveryCapabilities(processes=True, leases=True, foreign=True)
    settings = FileSettings
    loopback: ClassVar[Mapping[str, str]] = {"DYN_FILE_KV": "{folder}", "DYN_FILE_TTL": "3"}

    def __init__(self, host: Host, settings: FileSettings) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = host.log
        self.dynamo = host.dynamo
        self._ttl = settings.ttl
        self._folder = Folder(settings.path(), private=not settings.folder)
        self.where = f"the folder {self._folder.path}"
        self._scan = Scan(self._folder, settings.ttl, host.log)
        self._watches: set[Watch] = set()
        self._listing_wanted = False
        self.registered: dict[Slot, FileRegistration] = {}
        self._disk = ThreadPoolExecutor(1, "reqplane-file-disk")
        beat = min(settings.ttl, DYNAMO_TTL) / 3
        self._beat = Ticker("reqplane-file-beat", beat, self._touch_all, host.log)
        self._poll = Ticker("reqplane-file-poll", min(_PERIOD, settings.ttl / 4), self._look, host.log)
        self._closing = asyncio.Lock()
        self._closed = False

    @classmethod
    async def open(cls, host: Host) -> Self:
        discovery = cls(host, load(FileSettings, host.env))
        try:
            await discovery.run(discovery._folder.make)
            await discovery.run(discovery._folder.sweep)
        except BaseException:
            await discovery.aclose()
            raise
        return discovery

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Do what blocks in the thread for it; what the disk complains about is DiscoveryUnavailable."""
        # Shielded: what is half done when the caller is cancelled must be finished all the same.
        return await asyncio.shield(asyncio.wrap_future(self._submit(work, *args)))

    def _submit(self, work: Callable[..., T], *args: Any) -> Future[T]:
        if self._closed:
            raise DiscoveryUnavailable("this discovery backend is closed")
        return self._disk.submit(self._translated, work, *args)

    def _translated(self, work: Callable[..., T], *args: Any) -> T:
        try:
            return work(*args)
        except OSError as error:
            raise DiscoveryUnavailable(
                f"the discovery folder {self._folder.path}: {describe(error)}"
            ) from error

    # ── registering ─────────────────────────────────────────────────────────────────────────────────

    async def reserve(self, endpoint: EndpointId, incarnation: int) -> FileRegistration:
        first = incarnation if self.dynamo else None
        return FileRegistration(self, endpoint, await self.take(endpoint, first))

    async def take(self, endpoint: EndpointId, first: int | None = None) -> Slot:
        """A number, `first` if it is free; if the caller is cancelled meanwhile it is given back."""
        take = reserve_own if self.dynamo else reserve
        taking = self._submit(take, self._folder, endpoint, self._ttl, first)
        try:
            slot = await asyncio.shield(asyncio.wrap_future(taking))
        except asyncio.CancelledError:
            taking.add_done_callback(_give_back)
            raise
        if self._closed:
            slot.free()
            raise DiscoveryUnavailable("this discovery backend was closed meanwhile")
        self._beat.poke()
        return slot

    def _touch_all(self) -> None:
        """One heartbeat.  Runs in its thread."""
        trouble: OSError | None = None
        for slot, registration in self.registered.copy().items():
            try:
                if registration.stands and not slot.touch():
                    self._tell_loop(registration.fall, slot)
            except OSError as error:
                trouble = error  # the others must be touched all the same
        if trouble is not None:
            raise trouble

    # ── watching ────────────────────────────────────────────────────────────────────────────────────

    async def watch(self, endpoint: EndpointId | None) -> AsyncGenerator[list[Change], None]:
        if self._closed:
            return
        watch = Watch(endpoint)
        self._watches.add(watch)
        self._listing_wanted = True
        self._poll.poke()
        try:
            while (batch := await watch.take()) is not None:
                yield batch
        finally:
            self._watches.discard(watch)

    def _look(self) -> None:
        """One look at the folder.  Runs in the poll thread."""
        if not self._watches:
            return
        wanted = self._listing_wanted
        changes = self._scan.look()
        if wanted:
            # A watch that came since `wanted` was read is in `_watches` before this is delivered, so it
            # is served by this listing too.
            self._listing_wanted = False
        if changes or wanted:
            self._tell_loop(self._deliver, changes, self._scan.listing())

    def _deliver(self, changes: list[Change], listing: list[Change]) -> None:
        for watch in self._watches:
            watch.put(changes if watch.listed else listing)

    def _tell_loop(self, call: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(call, *args)

    # ── closing ─────────────────────────────────────────────────────────────────────────────────────

    async def aclose(self) -> None:
        async with self._closing:
            if self._closed:
                return
            stopping = self._submit(self._stop, list(self.registered))
            self._closed = True
            self.registered.clear()
            for watch in self._watches:
                watch.close()
            try:
                await asyncio.shield(asyncio.wrap_future(stopping))
            finally:
                self._disk.shutdown(wait=stopping.done())  # done: its thread is idle and ends at once

    def _stop(self, slots: list[Slot]) -> None:
        """Runs in the disk's thread, after all that was asked of it before."""
        self._beat.stop()
        self._poll.stop()
        for slot in slots:
            try:
                slot.free()
            except OSError as error:
                self._log.warning("discovery: the folder %s: %s", self._folder.path, describe(error))


def _give_back(taking: Future[Slot]) -> None:
    if not taking.cancelled() and taking.exception() is None:
        taking.result().free()
