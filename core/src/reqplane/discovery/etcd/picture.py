"""What etcd holds, as far as it has been told, and what became of it since the last telling.

Knows no client, no thread and no clock: it is fed listings and happenings, and answers with Changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from reqplane.discovery.etcd.seam import Entry, Happening, Listing, Removal
from reqplane.errors import WireError
from reqplane.model import Change, EndpointId, Instance
from reqplane.wire.records import parse_record

_Worker = tuple[EndpointId, int]


@dataclass(frozen=True, slots=True)
class _Known:
    modified: int
    lease: int  # an etcd whose data was wiped counts its revisions anew, but draws other leases
    instance: Instance | None  # None: a number without a record yet, one that leaves, or an unreadable one


class Picture:
    """`hold` is how many seconds a removal that can't be believed is held for."""

    def __init__(self, hold: float, warn: Callable[[str], None]) -> None:
        self._hold, self._warn = hold, warn
        self.revision = 0
        """Everything up to here has been told."""
        self._known: dict[str, _Known] = {}
        self._removed: dict[str, int] = {}  # when, for those that a listing on its way may still have
        self._unreadable: dict[str, bytes] = {}

    # ── being told ──────────────────────────────────────────────────────────────────────────────────

    def take(self, listing: Listing, doubtful: bool) -> list[Change]:
        """A listing takes the place of everything; what it lacks is gone."""
        there = {entry.key for entry in listing.entries}
        gone = [Removal(key, listing.revision) for key in self._known if key not in there]
        changed = [entry for entry in listing.entries if not self._has(entry)]
        self.revision = listing.revision
        changes = self._follow([*gone, *changed], doubtful)
        self._removed.clear()
        return changes

    def hear(self, happenings: Iterable[Happening], doubtful: bool) -> list[Change]:
        """What a watch tells.  A watch that was resumed may tell a thing again."""
        new = [one for one in happenings if one.modified > self.revision]
        self.revision = max((one.modified for one in new), default=self.revision)
        return self._follow(new, doubtful)

    def _follow(self, happenings: Iterable[Happening], doubtful: bool) -> list[Change]:
        changes = [change for one in happenings for change in self._step(one)]
        if all(change.up for change in changes):
            return changes
        return list(self._weighed(changes, doubtful))

    def _step(self, one: Happening) -> Iterator[Change]:
        known = self._known.pop(one.key, None)
        former = known.instance if known else None
        if isinstance(one, Removal):
            self._removed[one.key] = one.modified
            self._unreadable.pop(one.key, None)
            if former:
                yield Change(former, up=False)
            return
        self._removed.pop(one.key, None)
        instance = self._read(one)
        leaves = instance is not None and instance.draining
        self._known[one.key] = _Known(one.modified, one.lease, None if leaves else instance)
        same = instance is not None and former is not None and instance.incarnation == former.incarnation
        if former and not same:
            yield Change(former, up=False)
        if instance and leaves and same:
            yield Change(instance, up=False)
        elif instance and not leaves:
            yield Change(instance, up=True)

    def _read(self, entry: Entry) -> Instance | None:
        """The record, if there is one; a bad one is complained of once."""
        if not entry.value:
            return None
        try:
            instance = parse_record(entry.key, entry.value)
        except WireError as error:
            if self._unreadable.get(entry.key) != entry.value:
                self._warn(f"left out: {error}")
            self._unreadable[entry.key] = entry.value
            return None
        self._unreadable.pop(entry.key, None)
        return instance

    def _weighed(self, changes: Sequence[Change], doubtful: bool) -> Iterator[Change]:
        """Removals that may be wrong are held: in times of doubt all, and always those that would leave
        nobody.  A worker that is still there with another number has not gone."""
        living = {_worker(known.instance): known.instance for known in self._known.values() if known.instance}
        served = {endpoint for endpoint, _ in living}
        for place, change in enumerate(changes):
            gone = change.instance
            if change.up or gone.draining:
                yield change
                continue
            elsewhere = living.get(_worker(gone))
            held = elsewhere is None and (doubtful or gone.endpoint not in served)
            yield Change(gone, up=False, hold=self._hold if held else 0.0)
            if elsewhere is not None and (again := Change(elsewhere, up=True)) not in changes[place:]:
                yield again

    # ── being compared ──────────────────────────────────────────────────────────────────────────────

    def differs(self, listing: Listing) -> bool:
        """Whether a listing, taken a moment ago, has what the watch should have told by now and has not.

        Keys that were touched after it are not looked at.
        """
        there = {entry.key: entry for entry in listing.entries}
        for key in there.keys() | self._known.keys():
            entry, known = there.get(key), self._known.get(key)
            touched = known.modified if known else self._removed.get(key, 0)
            right = entry is None if known is None else entry is not None and self._has(entry)
            if touched <= listing.revision and not right:
                return True
        self._removed = {key: when for key, when in self._removed.items() if when > listing.revision}
        return False

    def agrees(self, listing: Listing) -> None:
        """It was compared and nothing differed, so nothing up to there needs to be told any more."""
        self.revision = max(self.revision, listing.revision)

    def _has(self, entry: Entry) -> bool:
        known = self._known.get(entry.key)
        return known is not None and (known.modified, known.lease) == (entry.modified, entry.lease)


def _worker(instance: Instance) -> _Worker:
    return instance.endpoint, instance.incarnation
