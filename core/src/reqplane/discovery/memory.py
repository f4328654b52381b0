"""Discovery within one process: what tests and programs in one piece need."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Iterable, Mapping
from itertools import chain, count
from typing import Any, Self

from reqplane.discovery.watches import Watch
from reqplane.errors import DiscoveryUnavailable, LeaseLost
from reqplane.interfaces import Discovery, Host, Registration
from reqplane.model import Change, EndpointId, Instance
from reqplane.wire.records import encode_record, parse_record, record_key

_Slot = tuple[EndpointId, int]


class _Store:
    """What the runtimes of one event loop share.

    Nothing in here may hold the loop, not even by way of a future or a task: the loop's entry in
    `_stores` would then live for ever.  Hence the weak set.
    """

    def __init__(self) -> None:
        self.taken: set[_Slot] = set()
        self.published: dict[_Slot, Instance] = {}
        self.watches: weakref.WeakSet[Watch] = weakref.WeakSet()

    def take(self, endpoint: EndpointId, first: int) -> _Slot:
        """The number `first` if it is free, else the lowest free."""
        numbers = chain([first], count())
        slot = next(slot for number in numbers if (slot := (endpoint, number)) not in self.taken)
        self.taken.add(slot)
        return slot

    def publish(self, slot: _Slot, instance: Instance) -> None:
        self.published[slot] = instance
        self._tell([Change(instance, up=True)])

    def give_back(self, slot: _Slot) -> None:
        self.taken.discard(slot)
        if (gone := self.published.pop(slot, None)) is not None:
            self._tell([Change(gone, up=False)])

    def listing(self) -> list[Change]:
        return [Change(instance, up=True) for instance in self.published.values()]

    def _tell(self, changes: Iterable[Change]) -> None:
        for watch in list(self.watches):
            watch.put(changes)


# The only state that runtimes share: without a common place they could not see each other, and they have
# nothing in common but the process and the loop.  By loop, so that one test's workers are not the next
# one's, and so that nothing here is touched from two threads; weakly, so that it goes with its loop.
_stores: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Store] = weakref.WeakKeyDictionary()


class MemoryRegistration(Registration):
    """A number in the store.  Never lost."""

    def __init__(self, owner: MemoryDiscovery, endpoint: EndpointId, first: int = 0) -> None:
        self._owner = owner
        self._endpoint = endpoint
        self._take(first)

    async def publish(self, record: Mapping[str, Any]) -> None:
        # By way of the bytes, so that a record that other backends can't store fails here too.
        key = record_key(self._endpoint, self.instance_id, dynamo=self._owner.dynamo)
        instance = parse_record(key, encode_record(record))
        if self._slot is None:
            raise LeaseLost(f"{key} was withdrawn")
        self._owner.store.publish(self._slot, instance)

    async def withdraw(self) -> None:
        self.give_back()

    async def renew(self) -> None:
        self._owner.check_open()
        self.give_back()
        self._take(first=self.instance_id)

    def _take(self, first: int) -> None:
        self._slot: _Slot | None = self._owner.store.take(self._endpoint, first)
        self.instance_id = self._slot[1]
        self.lost = asyncio.get_running_loop().create_future()
        self._owner.registrations.add(self)

    def give_back(self) -> None:
        if self._slot is not None:
            self._owner.store.give_back(self._slot)
            self._owner.registrations.discard(self)
            self._slot = None


class MemoryDiscovery(Discovery):
    """All runtimes of one process that run on the same event loop see each other."""

    name = "mem"
    where = "this process"

    def __init__(self, dynamo: bool) -> None:
        self.dynamo = dynamo
        self.store = _stores.setdefault(asyncio.get_running_loop(), _Store())
        self.registrations: set[MemoryRegistration] = set()
        self._watches: set[Watch] = set()
        self._closed = False

    @classmethod
    async def open(cls, host: Host) -> Self:
        return cls(host.dynamo)

    async def reserve(self, endpoint: EndpointId, incarnation: int) -> MemoryRegistration:
        self.check_open()
        return MemoryRegistration(self, endpoint, first=incarnation if self.dynamo else 0)

    async def watch(self, endpoint: EndpointId | None) -> AsyncGenerator[list[Change], None]:
        if self._closed:
            return
        watch = Watch(endpoint)
        watch.put(self.store.listing())
        self._watches.add(watch)
        self.store.watches.add(watch)
        try:
            while (batch := await watch.take()) is not None:
                yield batch
        finally:
            self._watches.discard(watch)
            self.store.watches.discard(watch)

    async def aclose(self) -> None:
        self._closed = True
        for registration in list(self.registrations):
            registration.give_back()
        for watch in self._watches:
            watch.close()

    def check_open(self) -> None:
        if self._closed:
            raise DiscoveryUnavailable("this discovery backend is closed")
