"""The numbers that this process holds, all under one lease.  Used in the etcd thread only.

The guide's numbers are small, so each is taken by writing its key, empty, before there is a record.  In
Dynamo's layout the number is the incarnation, and the lease's too, as with Dynamo: nobody else can have it,
so the key comes with the record, and after a loss everything is as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import cast

from reqplane.discovery.etcd.numbers import choose
from reqplane.discovery.etcd.seam import Client, Entry, Happening, LeaseGone, Listing, Removal
from reqplane.errors import DiscoveryUnavailable, LeaseLost
from reqplane.model import EndpointId
from reqplane.wire.records import dynamo_key, guide_key, leaving

_MOST_DIGITS = 20
"""No number of a worker has more; Python refuses to read a few thousand."""


class Place:
    """A number of an endpoint: one life of its key, which `created` tells from others; 0: not there yet."""

    __slots__ = ("created", "fallen", "key", "number", "record", "stands")

    def __init__(self, key: str, number: int, created: int, fallen: Callable[[], None]) -> None:
        self.key, self.number, self.created, self.fallen = key, number, created, fallen
        self.record = b""
        self.stands = True


class Registry:
    """`ttl` is the lease's, in seconds; `own` its number in Dynamo's layout, else that is etcd's choice."""

    def __init__(self, ttl: int, own: int | None = None) -> None:
        self._ttl = ttl
        self._own = own
        self.lease = 0
        """0: none yet, or none any more."""
        self.places: dict[str, Place] = {}

    # ── taking and leaving ──────────────────────────────────────────────────────────────────────────

    def take(
        self,
        client: Client,
        endpoint: EndpointId,
        incarnation: int,
        first: int | None,
        fallen: Callable[[], None],
    ) -> Place:
        """A number: `first` if it is free, else the lowest free one; in Dynamo's layout the incarnation."""
        if self._own is not None:
            return self._take_own(client, dynamo_key(endpoint, incarnation), incarnation, fallen)
        prefix = guide_key(endpoint, 0)[:-1]
        conflicts = 0
        while True:
            numbers = _numbers(client.list(prefix), prefix)
            try:
                entry = self._take_over(client, numbers.values(), incarnation)
                if entry is None:
                    wanted = first if first is not None and not conflicts and first not in numbers else None
                    number = choose(numbers, conflicts) if wanted is None else wanted
                    entry = client.claim(guide_key(endpoint, number), b"", self._granted(client))
            except LeaseGone:
                self.lose()
                continue
            if entry is not None:
                place = Place(entry.key, int(entry.key.removeprefix(prefix)), entry.created, fallen)
                self.places[entry.key] = place
                return place
            conflicts += 1

    def _take_own(self, client: Client, key: str, number: int, fallen: Callable[[], None]) -> Place:
        if key in self.places:
            raise DiscoveryUnavailable(f"this process holds {key} already")
        self._granted(client)
        place = self.places[key] = Place(key, number, 0, fallen)
        return place

    def _take_over(self, client: Client, entries: Iterable[Entry], incarnation: int) -> Entry | None:
        """What is this worker's already: by an answer that was lost, or by a lease that was."""
        for entry in entries:
            if entry.key in self.places:
                continue
            if self.lease and entry.lease == self.lease:
                return entry
            if _incarnation(entry.value) == incarnation:
                return client.replace(entry, entry.value, self._granted(client))
        return None

    def _granted(self, client: Client) -> int:
        self.lease = self.lease or client.grant(self._ttl, self._own or 0)
        return self.lease

    def publish(self, client: Client, place: Place, content: bytes) -> None:
        """LeaseLost if the number is not ours any more."""
        try:
            if place.stands and self._write(client, place, content):
                place.record = content
                return
        except LeaseGone:
            self.lose()
        self._fall(place)
        raise LeaseLost(f"{place.key} is not this worker's any more")

    def _write(self, client: Client, place: Place, content: bytes) -> bool:
        if place.created:
            return client.update(place.key, place.created, content, self.lease)
        entry = client.claim(place.key, content, self.lease)
        if entry is None and (former := _find(client, place.key)) is not None:
            entry = client.replace(former, content, self.lease)  # the number is ours: an answer was lost
        if entry is not None:
            place.created = entry.created
        return entry is not None

    def withdraw(self, client: Client, place: Place) -> None:
        """Say that it leaves, then free the number.  Two writes, so that watchers see both."""
        if place.stands:
            if not place.created and (entry := _find(client, place.key)) is not None:
                place.created = entry.created
            self._say_leaving(client, place)
            client.remove(place.key, place.created)
            place.stands = False
        if self.places.get(place.key) is place:
            del self.places[place.key]

    def _say_leaving(self, client: Client, place: Place) -> None:
        if place.record:
            content = json.dumps(leaving(json.loads(place.record)), separators=(",", ":")).encode()
            try:
                client.update(place.key, place.created, content, self.lease)
            except LeaseGone:
                self.lose()

    def leave(self, client: Client) -> None:
        """Withdraw everything, the lease too."""
        for place in list(self.places.values()):
            self._say_leaving(client, place)
        if self.lease:
            client.revoke(self.lease)
        self.lease = 0
        self.places.clear()

    # ── staying ─────────────────────────────────────────────────────────────────────────────────────

    def keep(self, client: Client) -> None:
        """Keep the lease, or learn that it is gone and everything under it."""
        if self.lease and not client.keep(self.lease):
            self.lose()

    def lose(self) -> None:
        self.lease = 0
        for place in list(self.places.values()):
            self._fall(place)

    def look(self, listing: Listing) -> None:
        """Every key must still be there, in the life that we know of it, and under our lease."""
        there = {entry.key: entry for entry in listing.entries}
        for place in [one for one in self.places.values() if one.created]:
            entry = there.get(place.key)
            if entry is None or entry.created != place.created or entry.lease != self.lease:
                self._fall(place)

    def lost_in(self, happenings: Iterable[Happening]) -> bool:
        """Whether one of our keys was deleted; it falls."""
        fallen = [
            place
            for one in happenings
            if isinstance(one, Removal)
            and (place := self.places.get(one.key))
            and 0 < place.created < one.modified
        ]
        for place in fallen:
            self._fall(place)
        return bool(fallen)

    def _fall(self, place: Place) -> None:
        if self.places.get(place.key) is place:
            del self.places[place.key]
        if place.stands:
            place.stands = False
            place.fallen()


def _find(client: Client, key: str) -> Entry | None:
    return next((entry for entry in client.list(key).entries if entry.key == key), None)


def _numbers(listing: Listing, prefix: str) -> dict[int, Entry]:
    """The entries by their numbers."""
    found: dict[int, Entry] = {}
    for entry in listing.entries:
        number = entry.key.removeprefix(prefix)
        if number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS:
            found[int(number)] = entry
    return found


def _incarnation(value: bytes) -> object:
    try:
        record: object = json.loads(value or b"null")
    except (ValueError, RecursionError):  # anybody may have put it there
        return None
    return cast(dict[str, object], record).get("incarnation") if isinstance(record, dict) else None
