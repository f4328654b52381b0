"""What follows from what etcd tells: scripted, without an etcd."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from reqplane.discovery.etcd.doubt import Doubt
from reqplane.discovery.etcd.known import Known
from reqplane.discovery.etcd.numbers import choose
from reqplane.discovery.etcd.picture import Picture
from reqplane.discovery.etcd.registry import Registry
from reqplane.discovery.etcd.seam import Entry, LeaseGone, Listing, Removal, Tell
from reqplane.errors import LeaseLost
from reqplane.model import Change, EndpointId, Instance
from reqplane.wire.records import encode_record, guide_key, leaving, make_record, parse_record

GENERATE = EndpointId("ns", "comp", "generate")
HOLD = 10


def content(number: int, incarnation: int, endpoint: EndpointId = GENERATE) -> Mapping[str, Any]:
    return make_record(endpoint, number, incarnation, {"tcp": "a:1"}, "json", ["tcp"])


def put(number: int, incarnation: int, at: int, *, drains: bool = False, lease: int = 1) -> Entry:
    record = content(number, incarnation)
    value = encode_record(leaving(record) if drains else record)
    return Entry(guide_key(GENERATE, number), value, at, at, lease)


def reserved(number: int, at: int) -> Entry:
    return Entry(guide_key(GENERATE, number), b"", at, at, 1)


def removed(number: int, at: int) -> Removal:
    return Removal(guide_key(GENERATE, number), at)


def told(changes: list[Change]) -> list[tuple[str, int, float]]:
    return [("up" if one.up else "down", one.instance.incarnation, one.hold) for one in changes]


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def picture(complaints: list[str]) -> Picture:
    """Three workers at revision 10."""
    picture = Picture(HOLD, complaints.append)
    picture.take(Listing(10, (put(0, 100, 8), put(1, 101, 9), put(2, 102, 10))), False)
    return picture


# ── removals ────────────────────────────────────────────────────────────────────────────────────────


def test_a_removal_is_believed_while_others_are_there(picture: Picture) -> None:
    assert told(picture.hear([removed(0, 11)], False)) == [("down", 100, 0)]


def test_in_times_of_doubt_it_is_held(picture: Picture) -> None:
    assert told(picture.hear([removed(0, 11)], True)) == [("down", 100, HOLD)]


def test_what_empties_an_endpoint_is_held(picture: Picture) -> None:
    picture.hear([removed(0, 11), removed(1, 12)], False)
    assert told(picture.hear([removed(2, 13)], False)) == [("down", 102, HOLD)]


def test_all_at_once_are_held(picture: Picture) -> None:
    changes = picture.hear([removed(n, 11) for n in range(3)], False)
    assert told(changes) == [("down", 100, HOLD), ("down", 101, HOLD), ("down", 102, HOLD)]


def test_who_said_that_it_leaves_is_not(picture: Picture) -> None:
    assert told(picture.hear([put(0, 100, 11, drains=True)], True)) == [("down", 100, 0)]
    assert picture.hear([removed(0, 12)], True) == []


def test_not_even_the_last_one(picture: Picture) -> None:
    picture.hear([removed(0, 11), removed(1, 12)], False)
    changes = picture.hear([put(2, 102, 13, drains=True), removed(2, 14)], False)
    assert told(changes) == [("down", 102, 0)]


def test_a_number_taken_again_is_another_worker(picture: Picture) -> None:
    assert picture.hear([removed(0, 11), reserved(0, 12)], False)
    assert told(picture.hear([put(0, 200, 13)], False)) == [("up", 200, 0)]
    assert told(picture.hear([put(1, 201, 14)], False)) == [("down", 101, 0), ("up", 201, 0)]


def test_a_worker_with_another_number_has_not_gone(picture: Picture) -> None:
    changes = picture.hear([put(7, 100, 11), removed(0, 12)], True)
    assert told(changes) == [("up", 100, 0), ("down", 100, 0), ("up", 100, 0)]
    assert changes[-1].instance.instance_id == 7


def test_what_a_resumed_watch_tells_again_is_nothing_new(picture: Picture) -> None:
    assert picture.hear([put(0, 100, 8), removed(1, 10)], False) == []


# ── records ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_reserved_number_is_nobody(picture: Picture, complaints: list[str]) -> None:
    assert picture.hear([reserved(3, 11)], False) == []
    assert complaints == []


def test_a_bad_record_is_complained_of_once(picture: Picture, complaints: list[str]) -> None:
    bad = Entry(guide_key(GENERATE, 3), b"[]", 11, 11, 1)
    picture.hear([bad], False)
    picture.hear([Entry(bad.key, b"[]", 11, 12, 1)], False)
    assert len(complaints) == 1
    picture.hear([Entry(bad.key, b"{", 11, 13, 1)], False)
    assert len(complaints) == 2


def test_a_record_that_turns_bad_takes_its_worker_away(picture: Picture) -> None:
    assert told(picture.hear([Entry(guide_key(GENERATE, 0), b"[]", 8, 11, 1)], False)) == [("down", 100, 0)]


# ── listings ────────────────────────────────────────────────────────────────────────────────────────


def test_a_listing_tells_what_became_of_it(picture: Picture) -> None:
    changes = picture.take(Listing(20, (put(0, 100, 8), put(2, 102, 15), put(3, 103, 16))), False)
    assert told(changes) == [("down", 101, 0), ("up", 102, 0), ("up", 103, 0)]
    assert picture.revision == 20


def test_a_listing_after_doubt_holds_who_is_missing(picture: Picture) -> None:
    assert told(picture.take(Listing(20, (put(0, 100, 8),)), True)) == [
        ("down", 101, HOLD),
        ("down", 102, HOLD),
    ]


def test_the_same_revision_under_another_lease_is_another_key(picture: Picture) -> None:
    """The data was wiped, and others came in the same order."""
    changes = picture.take(Listing(10, (put(0, 200, 8, lease=2), put(1, 101, 9), put(2, 102, 10))), True)
    assert told(changes) == [("down", 100, HOLD), ("up", 200, 0)]


def test_comparing(picture: Picture) -> None:
    same = (put(0, 100, 8), put(1, 101, 9), put(2, 102, 10))
    assert not picture.differs(Listing(30, same))
    assert picture.differs(Listing(30, (*same, put(3, 103, 11))))  # not told
    assert picture.differs(Listing(30, same[:2]))  # a removal that was not told
    assert picture.differs(Listing(30, (put(0, 100, 12), *same[1:])))  # a new record
    assert picture.differs(Listing(30, (put(0, 100, 8, lease=2), *same[1:])))  # another history


def test_what_was_touched_after_the_listing_is_not_compared(picture: Picture) -> None:
    listing = Listing(11, (put(0, 100, 8), put(1, 101, 9), put(2, 102, 10), reserved(3, 11)))
    picture.hear([reserved(3, 11), put(0, 100, 12), removed(1, 13), put(4, 104, 14)], False)
    assert not picture.differs(listing)


def test_who_agrees_goes_on_from_there(picture: Picture) -> None:
    picture.agrees(Listing(30, ()))
    assert picture.revision == 30
    picture.agrees(Listing(20, ()))
    assert picture.revision == 30


# ── doubt, numbers, and who begins to watch later ───────────────────────────────────────────────────


def test_doubt_lasts_a_lease_time_and_an_election_after_half_of_one_in_silence() -> None:
    doubt = Doubt(10)
    for now in (0, 5, 10):
        doubt.heard(now)
        assert not doubt.holds(now)
    doubt.heard(15.1)
    assert doubt.holds(27)
    assert not doubt.holds(27.2)
    doubt.arise(30)
    assert doubt.holds(41)


def test_numbers_are_the_lowest_first_and_then_spread() -> None:
    assert choose(set(), 0) == 0
    assert choose({0, 1, 3}, 0) == 2
    drawn = {choose({0, 1}, 1) for _ in range(500)}
    assert drawn == set(range(2, 10))
    assert max(choose({0, 1}, 3) for _ in range(500)) <= 25


def test_who_begins_to_watch_later_hears_of_the_held_too() -> None:
    one, two = (parse_record(guide_key(GENERATE, n), content(n, 100 + n)) for n in range(2))
    known = Known()
    known.follow([Change(one, up=True), Change(two, up=True), Change(one, up=False, hold=10)], 0)
    assert known.listing(4) == [
        Change(two, up=True),
        Change(one, up=True),
        Change(one, up=False, hold=6),
    ]
    assert known.listing(11) == [Change(two, up=True)]


# ── the numbers that a process holds ────────────────────────────────────────────────────────────────


class FakeEtcd:
    """The part of etcd that a registry needs."""

    def __init__(self) -> None:
        self.revision = 1
        self.entries: dict[str, Entry] = {}
        self.leases: set[int] = set()
        self.before_claim: Callable[[], None] = lambda: None
        self.history: list[Entry | Removal] = []

    def list(self, prefix: str) -> Listing:
        return Listing(self.revision, tuple(e for key, e in self.entries.items() if key.startswith(prefix)))

    def write(self, key: str, value: bytes, lease: int) -> Entry:
        if lease and lease not in self.leases:
            raise LeaseGone("gone")
        self.revision += 1
        former = self.entries.get(key)
        entry = Entry(key, value, former.created if former else self.revision, self.revision, lease)
        self.entries[key] = entry
        self.history.append(entry)
        return entry

    def claim(self, key: str, value: bytes, lease: int) -> Entry | None:
        self.before_claim()
        return None if key in self.entries else self.write(key, value, lease)

    def replace(self, entry: Entry, value: bytes, lease: int) -> Entry | None:
        found = self.entries.get(entry.key)
        return self.write(entry.key, value, lease) if found and found.modified == entry.modified else None

    def update(self, key: str, created: int, value: bytes, lease: int) -> bool:
        found = self.entries.get(key)
        if found is None or found.created != created:
            return False
        self.write(key, value, lease)
        return True

    def remove(self, key: str, created: int) -> None:
        found = self.entries.get(key)
        if found is not None and found.created == created:
            del self.entries[key]
            self.revision += 1
            self.history.append(Removal(key, self.revision))

    def grant(self, ttl: int, number: int) -> int:
        lease = number or 1000 + self.revision
        self.leases.add(lease)
        return lease

    def keep(self, lease: int) -> bool:
        return lease in self.leases

    def revoke(self, lease: int) -> None:
        self.leases.discard(lease)
        self.entries = {key: entry for key, entry in self.entries.items() if entry.lease != lease}

    def watch(self, prefix: str, revision: int, tell: Tell) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@pytest.fixture
def etcd() -> FakeEtcd:
    return FakeEtcd()


@pytest.fixture
def fallen() -> list[str]:
    return []


def take(
    registry: Registry, etcd: FakeEtcd, fallen: list[str], incarnation: int = 7, first: int | None = None
):
    return registry.take(etcd, GENERATE, incarnation, first, lambda: fallen.append("fallen"))


def test_a_claim_whose_answer_was_lost_is_ours(etcd: FakeEtcd, fallen: list[str]) -> None:
    registry = Registry(10)
    registry.lease = etcd.grant(10, 0)
    etcd.claim(guide_key(GENERATE, 0), b"", registry.lease)
    assert take(registry, etcd, fallen).number == 0
    assert take(registry, etcd, fallen).number == 1


def test_a_record_of_the_same_incarnation_is_taken_over(etcd: FakeEtcd, fallen: list[str]) -> None:
    etcd.write(guide_key(GENERATE, 3), encode_record(content(3, 7)), 0)
    registry = Registry(10)
    place = take(registry, etcd, fallen)
    assert place.number == 3
    assert etcd.entries[place.key].lease == registry.lease != 0


def test_who_meets_another_tries_elsewhere(etcd: FakeEtcd, fallen: list[str]) -> None:
    def rival() -> None:
        etcd.before_claim = lambda: None
        etcd.write(guide_key(GENERATE, 0), b"", 0)

    etcd.before_claim = rival
    assert 1 <= take(Registry(10), etcd, fallen).number <= 8


def test_a_lease_that_is_gone_is_replaced(etcd: FakeEtcd, fallen: list[str]) -> None:
    registry = Registry(10)
    first = take(registry, etcd, fallen)
    etcd.revoke(registry.lease)
    second = take(registry, etcd, fallen, incarnation=8)
    assert fallen == ["fallen"]
    assert (first.stands, second.stands) == (False, True)
    with pytest.raises(LeaseLost):
        registry.publish(etcd, first, b"{}")


def test_leaving_is_two_writes(etcd: FakeEtcd, fallen: list[str]) -> None:
    registry = Registry(10)
    place = take(registry, etcd, fallen)
    registry.publish(etcd, place, encode_record(content(0, 7)))
    registry.withdraw(etcd, place)
    registry.withdraw(etcd, place)
    announced, gone = etcd.history[-2:]
    assert isinstance(announced, Entry)
    assert json.loads(announced.value)["draining"] is True
    assert isinstance(gone, Removal)
    assert fallen == []


@pytest.mark.parametrize("change", ["missing", "another life", "another lease"])
def test_a_key_that_is_not_ours_any_more_falls(etcd: FakeEtcd, fallen: list[str], change: str) -> None:
    registry = Registry(10)
    place = take(registry, etcd, fallen)
    registry.look(etcd.list("v1/"))
    assert fallen == []
    if change != "another lease":
        etcd.remove(place.key, place.created)
    if change != "missing":
        etcd.write(place.key, b"", 0 if change == "another lease" else registry.lease)
    registry.look(etcd.list("v1/"))
    assert fallen == ["fallen"]


def test_an_old_removal_does_not_concern_a_new_life(etcd: FakeEtcd, fallen: list[str]) -> None:
    registry = Registry(10)
    place = take(registry, etcd, fallen)
    assert not registry.lost_in([Removal(place.key, place.created - 1)])
    assert registry.lost_in([Removal(place.key, place.created + 1)])
    assert fallen == ["fallen"]


def test_the_instances_are_those_of_the_records(picture: Picture) -> None:
    [change] = picture.hear([put(5, 105, 11)], False)
    assert change.instance == Instance(GENERATE, 5, 105, {"tcp": "a:1"}, planes=("tcp",))


@pytest.mark.parametrize(("number", "value"), [("0", b"[" * 60_000), ("9" * 5000, b"{}")])
def test_junk_that_others_put_there_keeps_nobody_from_a_number(
    etcd: FakeEtcd, fallen: list[str], number: str, value: bytes
) -> None:
    etcd.claim(guide_key(GENERATE, 0)[:-1] + number, value, etcd.grant(10, 0))
    assert take(Registry(10), etcd, fallen).number == (1 if number == "0" else 0)
