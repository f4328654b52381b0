"""Discovery backends that are wrong, each in one way: what the suite has to find.

Most are the memory backend with one mistake; those about processes and files are the file backend.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self, TypeAlias

from reqplane.discovery.etcd.backend import EtcdDiscovery
from reqplane.discovery.file import FileDiscovery, FileRegistration
from reqplane.discovery.memory import MemoryDiscovery, MemoryRegistration
from reqplane.errors import WireError
from reqplane.host import RuntimeHost
from reqplane.interfaces import Host
from reqplane.model import Change, EndpointId, Instance
from reqplane.wire.records import encode_record, guide_key, parse_record

Batches: TypeAlias = AsyncGenerator[list[Change], None]


class Registered(MemoryDiscovery):
    """Not wrong: a memory backend whose registrations are of another class."""

    registration: type[MemoryRegistration] = MemoryRegistration

    async def reserve(self, endpoint: EndpointId, incarnation: int) -> MemoryRegistration:
        self.check_open()
        return self.registration(self, endpoint)


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────


class GivesNumbersTwice(MemoryDiscovery):
    """Looks for a free number, waits for something, and takes it."""

    async def reserve(self, endpoint: EndpointId, incarnation: int) -> MemoryRegistration:
        self.check_open()
        taken = self.store.taken
        number = next(number for number in itertools.count() if (endpoint, number) not in taken)
        await asyncio.sleep(0)
        taken.discard((endpoint, number))
        return await super().reserve(endpoint, incarnation)


class CountsUp(MemoryDiscovery):
    """Counts up instead of looking for what is free."""

    last: ClassVar[Counter[EndpointId]] = Counter()

    async def reserve(self, endpoint: EndpointId, incarnation: int) -> MemoryRegistration:
        registration = await super().reserve(endpoint, incarnation)
        registration.give_back()
        registration._slot = self.store.take(endpoint, self.last[endpoint])
        registration.instance_id = registration._slot[1]
        self.registrations.add(registration)
        self.last[endpoint] = registration.instance_id + 1
        return registration


class KeepsCancelledNumbers(MemoryDiscovery):
    """Forgets what it took when the caller was cancelled before it was told."""

    async def reserve(self, endpoint: EndpointId, incarnation: int) -> MemoryRegistration:
        registration = await super().reserve(endpoint, incarnation)
        await asyncio.sleep(0)
        return registration


class _FreesOnlyPublished(MemoryRegistration):
    def give_back(self) -> None:
        if self._slot in self._owner.store.published:
            super().give_back()


class FreesOnlyPublished(Registered):
    """Withdraws records; a number without one stays taken."""

    registration = _FreesOnlyPublished


class _LosesOnWithdraw(MemoryRegistration):
    def give_back(self) -> None:
        super().give_back()
        if not self.lost.done():
            self.lost.set_result(None)


class LosesOnWithdraw(Registered):
    """Takes every end of a registration for a loss: the worker would register again."""

    registration = _LosesOnWithdraw


# ── records ─────────────────────────────────────────────────────────────────────────────────────────


class _Nulls(MemoryRegistration):
    async def publish(self, record: Mapping[str, Any]) -> None:
        encode_record(record)
        await super().publish(_without_nulls(record))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return value


class DropsNulls(Registered):
    """Keeps records in a store that has no null."""

    registration = _Nulls


class _Truncates(MemoryRegistration):
    async def publish(self, record: Mapping[str, Any]) -> None:
        content = encode_record(record)
        if len(content) > 4096:
            transport = {name: str(value)[:4000] for name, value in record["transport"].items()}
            record = {**record, "transport": transport}
        await super().publish(record)


class Truncates(Registered):
    """Keeps records in a column of four thousand characters."""

    registration = _Truncates


def _empty(endpoint: EndpointId, number: int) -> Instance:
    """All that can be told by a key alone."""
    return parse_record(guide_key(endpoint, number), '{"transport": {}}')


class _SeenEarly(MemoryRegistration):
    def __init__(self, owner: MemoryDiscovery, endpoint: EndpointId) -> None:
        super().__init__(owner, endpoint)
        assert self._slot is not None
        owner.store.publish(
            self._slot, parse_record(guide_key(endpoint, self.instance_id), '{"transport": {}}')
        )


class SeenBeforePublish(Registered):
    """Writes an empty record when the number is taken, and tells of it."""

    registration = _SeenEarly


class KeepsFirstRecord(MemoryDiscovery):
    """A listing has each worker's first record, whatever it published since."""

    firsts: ClassVar[dict[tuple[EndpointId, int], Instance]] = {}

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        is_first = True
        async for batch in super().watch(endpoint):
            if is_first:
                batch = [replace(one, instance=self._first(one.instance)) for one in batch]
            for change in batch:
                self._first(change.instance)
            is_first = False
            yield batch

    def _first(self, instance: Instance) -> Instance:
        return self.firsts.setdefault((instance.endpoint, instance.incarnation), instance)


class FlapsOnPublish(MemoryDiscovery):
    """Tells of a record that was published again as of a worker that went and came."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        known: set[int] = set()
        async for batch in super().watch(endpoint):
            changes: list[Change] = []
            for change in batch:
                if change.up and change.instance.incarnation in known:
                    changes.append(replace(change, up=False))
                known.add(change.instance.incarnation)
                changes.append(change)
            yield changes


class MissesDeletes(MemoryDiscovery):
    """Tells of who comes, and never of who goes."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        is_first = True
        async for batch in super().watch(endpoint):
            ups = [change for change in batch if change.up]
            if ups or is_first:
                yield ups
            is_first = False


class ForgetsWhoWent(MemoryDiscovery):
    """Tells of a deleted key without the record that was there: nobody knows the incarnation."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        async for batch in super().watch(endpoint):
            yield [change if change.up else self._bare(change) for change in batch]

    def _bare(self, change: Change) -> Change:
        return Change(_empty(change.instance.endpoint, change.instance.instance_id), up=False)


class DoubtsEverything(MemoryDiscovery):
    """Holds every worker that goes, also one that left in order."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        async for batch in super().watch(endpoint):
            yield [change if change.up else replace(change, hold=10.0) for change in batch]


class SkipsWhatWasBetween(MemoryDiscovery):
    """Looks at what there is under a number now, and does not tell that the former worker went."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        async for batch in super().watch(endpoint):
            later = [[_key(other) for other in batch[place:] if other.up] for place in range(len(batch))]
            yield [one for one, ups in zip(batch, later, strict=True) if one.up or _key(one) not in ups]


def _key(change: Change) -> tuple[EndpointId, int]:
    return change.instance.endpoint, change.instance.instance_id


class KeyedByIncarnation(MemoryDiscovery):
    """Takes all workers of a process for one: when one endpoint goes, all do."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        there: list[Instance] = []
        async for batch in super().watch(endpoint):
            changes: list[Change] = []
            for change in batch:
                same = [one for one in there if one.incarnation == change.instance.incarnation]
                if change.up:
                    there.append(change.instance)
                    changes.append(change)
                else:
                    changes += [Change(one, up=False) for one in same]
                    there = [one for one in there if one not in same]
            yield changes


class _WithdrawsSuccessor(MemoryRegistration):
    async def withdraw(self) -> None:
        slot = (self._endpoint, self.instance_id)
        self._owner.store.give_back(slot)
        self._owner.registrations.discard(self)
        self._slot = None


class WithdrawsSuccessor(Registered):
    """Withdraws whatever has the number, a second time too."""

    registration = _WithdrawsSuccessor


class _PublishesWithdrawn(MemoryRegistration):
    async def publish(self, record: Mapping[str, Any]) -> None:
        if self._slot is None and not self._owner._closed:
            self._take(first=self.instance_id)
        await super().publish(record)


class PublishesWithdrawn(Registered):
    """Takes the number again when a record is published that was withdrawn."""

    registration = _PublishesWithdrawn


class _ForeignErrors(MemoryRegistration):
    async def publish(self, record: Mapping[str, Any]) -> None:
        json.dumps(record, allow_nan=False).encode()
        await super().publish(record)


class ForeignErrors(Registered):
    """Lets out what its library raises."""

    registration = _ForeignErrors


class _TakesAnything(MemoryRegistration):
    async def publish(self, record: Mapping[str, Any]) -> None:
        try:
            await super().publish(record)
        except WireError:
            if self._slot is not None:
                self._owner.store.give_back(self._slot)
                self._owner.store.taken.add(self._slot)


class TakesAnything(Registered):
    """Swallows what is wrong with a record, and the worker is gone."""

    registration = _TakesAnything


# ── watches ─────────────────────────────────────────────────────────────────────────────────────────


class NoFirstBatch(MemoryDiscovery):
    """Says nothing while there is nothing."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        async for batch in super().watch(endpoint):
            if batch:
                yield batch


class ListsOneByOne(MemoryDiscovery):
    """Tells of one worker at a time, in the first batch too."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        async for batch in super().watch(endpoint):
            if not batch:
                yield batch
            for change in batch:
                yield [change]


class EndsAfterAChange(MemoryDiscovery):
    """Its watch has to be called again after each change."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        told = 0
        async for batch in super().watch(endpoint):
            yield batch
            told += 1
            if told == 2:
                return


class YieldsChanges(MemoryDiscovery):
    """Yields changes, not lists of them."""

    async def watch(self, endpoint: EndpointId | None) -> AsyncGenerator[Any, None]:
        async for batch in super().watch(endpoint):
            if not batch:
                yield batch
            for change in batch:
                yield change


class WatchesPrefix(MemoryDiscovery):
    """Takes all endpoints whose names begin like the one that was asked for."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        is_first = True
        async for batch in super().watch(None):
            wanted = [one for one in batch if str(one.instance.endpoint).startswith(str(endpoint or ""))]
            if wanted or is_first:
                yield wanted
            is_first = False


class TakesTurns(MemoryDiscovery):
    """Tells each change to one of those who watch the same."""

    turn = 0

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        is_first = True
        async for batch in super().watch(endpoint):
            count = sum(watch._endpoint == endpoint for watch in self._watches)
            mine = batch if is_first else [change for change in batch if self._is_turn_of_one_in(count)]
            if mine or is_first:
                yield mine
            is_first = False

    def _is_turn_of_one_in(self, count: int) -> bool:
        self.turn += 1
        return count < 3 or self.turn % count == 0


class ListsThenListens(MemoryDiscovery):
    """Lists, waits for something, and then begins to listen: what happens meanwhile is missed."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        listing = [one for one in self.store.listing() if endpoint in (None, one.instance.endpoint)]
        for _ in range(3):
            await asyncio.sleep(0)
        is_first = True
        async for batch in super().watch(endpoint):
            yield listing if is_first else batch
            is_first = False


class Overtakes(MemoryDiscovery):
    """Hands changes on by tasks of their own, of which every other one is late."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        late: deque[list[Change]] = deque()
        is_first = True
        async for batch in super().watch(endpoint):
            if is_first or len(batch) < 4:
                yield batch
                is_first = False
                continue
            late.extend([batch[1::2], batch[::2]])
            while late:
                yield late.popleft()


class DropsForSlowReaders(MemoryDiscovery):
    """Keeps seventy changes for a watch that takes none."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        is_first = True
        async for batch in super().watch(endpoint):
            yield batch if is_first else batch[:70]
            is_first = False


class _WaitsForReaders(MemoryRegistration):
    async def publish(self, record: Mapping[str, Any]) -> None:
        await super().publish(record)
        while any(watch._pending for watch in self._owner.store.watches):
            await asyncio.sleep(0.001)


class WaitsForReaders(Registered):
    """Publishing ends when everybody who watches has taken the record."""

    registration = _WaitsForReaders


class LeavesTasks(MemoryDiscovery):
    """Starts a task for each watch, and never ends it."""

    tasks: ClassVar[set[asyncio.Task[None]]] = set()

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        self.tasks.add(asyncio.create_task(asyncio.sleep(3600)))
        async for batch in super().watch(endpoint):
            yield batch


class WithstandsCancelling(MemoryDiscovery):
    """Catches everything in the loop that follows changes."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        while not self._closed:
            try:
                async for batch in super().watch(endpoint):
                    yield batch
            except asyncio.CancelledError:
                continue


class NeverReconnects(EtcdDiscovery):
    """Stays without a server when its connection to one was lost."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        sessions = self._sessions
        session = sessions._session

        def once() -> None:
            if sessions._number == 1:
                session()
            time.sleep(0.01)

        sessions._session = once  # type: ignore[method-assign]


# ── opening and closing ─────────────────────────────────────────────────────────────────────────────


class WatchesGoOn(MemoryDiscovery):
    """Closing ends no watch."""

    async def aclose(self) -> None:
        watches, self._watches = self._watches, set()
        await super().aclose()
        self._watches = watches


class BreaksWatches(MemoryDiscovery):
    """Closing lets an error of its library out of every watch."""

    async def watch(self, endpoint: EndpointId | None) -> Batches:
        async for batch in super().watch(endpoint):
            yield batch
        raise ConnectionResetError("closed")


class StaysRegistered(MemoryDiscovery):
    """Closing withdraws nothing."""

    async def aclose(self) -> None:
        self.registrations.clear()
        await super().aclose()


class ClosesOnce(MemoryDiscovery):
    """Closing again fails."""

    async def aclose(self) -> None:
        if self._closed:
            raise RuntimeError("closed")
        await super().aclose()


class ReservesWhenClosed(MemoryDiscovery):
    """Does not look whether it is closed."""

    def check_open(self) -> None: ...


class RegistersLate(MemoryDiscovery):
    """Looks whether it is closed, and takes the number later."""

    async def reserve(self, endpoint: EndpointId, incarnation: int) -> MemoryRegistration:
        self.check_open()
        for _ in range(3):
            await asyncio.sleep(0)
        return MemoryRegistration(self, endpoint)


class LeavesThread(FileDiscovery):
    """Forgets the thread that looks at the folder."""

    async def aclose(self) -> None:
        self._poll.stop = lambda: None  # type: ignore[method-assign]
        await super().aclose()


class ReadsItsProcess(FileDiscovery):
    """Takes its settings from the process's own environment."""

    @classmethod
    async def open(cls, host: Host) -> Self:
        env = {**host.env, **os.environ}
        mixed = RuntimeHost(env, host.limits)
        try:
            return await super().open(mixed)
        finally:
            await mixed.aclose()


class GuessesSettings(FileDiscovery):
    """Takes the default where a setting is wrong."""

    @classmethod
    async def open(cls, host: Host) -> Self:
        env = {name: value for name, value in host.env.items() if value != "-1"}
        return await super().open(RuntimeHost(env, host.limits))


# ── other processes ─────────────────────────────────────────────────────────────────────────────────


class NeverExpires(FileDiscovery):
    """Believes in every record for ever."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._scan._lives = lambda name, file: True  # type: ignore[method-assign]


class NeverBeats(FileDiscovery):
    """Does not keep its own leases."""

    def _touch_all(self) -> None: ...


class NeverLost(FileDiscovery):
    """Does not tell a worker that its place is gone."""

    def _tell_loop(self, call: Any, *args: Any) -> None:
        if call.__name__ != "fall":
            super()._tell_loop(call, *args)


class _Loses(FileRegistration):
    async def renew(self) -> None:
        lost = self.lost
        await super().renew()
        self.lost = lost


class RenewsHalf(FileDiscovery):
    """After `renew`, `lost` is what it was."""

    async def reserve(self, endpoint: EndpointId, incarnation: int) -> FileRegistration:
        slot = await self.take(endpoint)
        return _Loses(self, endpoint, slot)


class StumblesOverJunk(FileDiscovery):
    """A record that can't be read ends the look at the folder."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)

        def parse(entry: Any, content: bytes) -> Instance:
            return parse_record(f"v1/instances/{entry.name}", content)

        self._scan._parse = parse  # type: ignore[method-assign]


class KnowsOneLayout(FileDiscovery):
    """Reads the guide's keys and no others."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        parse = self._scan._parse
        self._scan._parse = lambda entry, content: (  # type: ignore[method-assign]
            parse(entry, content) if entry.name.startswith("namespace.") else None
        )
