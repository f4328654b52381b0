"""The policies that look at load: they pick rightly, count rightly, and never look at everybody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reqplane.balancing import LeastLoaded, PowerOfTwo
from reqplane.interfaces import RouterPolicy
from reqplane.model import EndpointId, Instance, Load, Request

ENDPOINT = EndpointId("default", "backend", "generate")
REQUEST = Request({})
NOBODY: frozenset[int] = frozenset()


def worker(incarnation: int, instance_id: int | None = None) -> Instance:
    return Instance(ENDPOINT, incarnation if instance_id is None else instance_id, incarnation, {})


def send(policy: RouterPolicy, avoid: frozenset[int] = NOBODY) -> int | None:
    """Pick and start, as a call does."""
    picked = policy.pick(REQUEST, avoid)
    if picked is None:
        return None
    policy.started(picked)
    return picked.incarnation


def fleet(make: Callable[[], RouterPolicy], count: int) -> RouterPolicy:
    policy = make()
    policy.changed([worker(number) for number in range(count)], [])
    return policy


@pytest.mark.parametrize("make", [LeastLoaded, PowerOfTwo])
def test_nobody_to_pick(make: Callable[[], RouterPolicy]):
    policy = make()
    assert policy.pick(REQUEST, NOBODY) is None
    policy.changed([worker(1)], [])
    assert policy.pick(REQUEST, frozenset({1})) is None
    assert send(policy) == 1
    policy.changed([], [worker(1)])
    assert policy.pick(REQUEST, NOBODY) is None


@pytest.mark.parametrize("make", [LeastLoaded, PowerOfTwo])
def test_a_busy_worker_is_left_alone(make: Callable[[], RouterPolicy]):
    policy = fleet(make, 2)
    for _ in range(5):
        policy.started(worker(0))
    assert [send(policy) for _ in range(4)] == [1, 1, 1, 1]


@pytest.mark.parametrize("make", [LeastLoaded, PowerOfTwo])
def test_what_others_send_counts_too(make: Callable[[], RouterPolicy]):
    """A report holds our own requests as well, which count once."""
    policy = fleet(make, 2)
    for _ in range(4):
        policy.started(worker(1))
    policy.reported(worker(1), Load(running=4, queued=0))
    policy.reported(worker(0), Load(running=3, queued=2))
    assert [send(policy)] == [1]
    policy.finished(worker(1), "done")
    policy.reported(worker(0), Load(running=0, queued=0))
    assert [send(policy)] == [0]


@pytest.mark.parametrize("make", [LeastLoaded, PowerOfTwo])
def test_a_new_record_keeps_the_count(make: Callable[[], RouterPolicy]):
    policy = fleet(make, 2)
    policy.started(worker(0))
    policy.reported(worker(0), Load(3, 0))
    policy.changed([worker(0, instance_id=7)], [worker(0)])
    assert send(policy) == 1
    policy.started(worker(1))
    policy.started(worker(1))
    policy.started(worker(1))
    picked = policy.pick(REQUEST, NOBODY)
    assert picked is not None
    assert picked.instance_id == 7


@pytest.mark.parametrize("make", [LeastLoaded, PowerOfTwo])
def test_a_worker_that_comes_back_still_has_our_requests(make: Callable[[], RouterPolicy]):
    policy = fleet(make, 2)
    policy.started(worker(0))
    policy.started(worker(0))
    policy.changed([], [worker(0)])
    policy.finished(worker(0), "left")
    policy.changed([worker(0)], [])
    assert send(policy) == 1
    policy.finished(worker(0), "done")
    assert send(policy) == 0


def test_equals_take_turns():
    policy = fleet(LeastLoaded, 3)
    assert [send(policy) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    for number in (1, 2, 0, 0):
        policy.finished(worker(number), "done")
    assert [send(policy) for _ in range(3)] == [1, 2, 0]


def test_one_that_was_tried_is_passed_over():
    policy = fleet(LeastLoaded, 3)
    policy.started(worker(1))
    assert send(policy, frozenset({0, 2})) == 1
    assert send(policy, frozenset({0})) == 2
    two = fleet(PowerOfTwo, 3)
    assert {send(two, frozenset({0})) for _ in range(20)} == {1, 2}


def test_two_choices_are_even_among_equals():
    policy = fleet(PowerOfTwo, 4)
    counts = Counter(picked.incarnation for _ in range(4000) if (picked := policy.pick(REQUEST, NOBODY)))
    assert set(counts) == {0, 1, 2, 3}
    assert min(counts.values()) > 800


steps = st.lists(
    st.tuples(
        st.sampled_from(["send", "finish", "report", "remove", "add"]),
        st.integers(0, 5),
        st.integers(0, 9),
    ),
    max_size=120,
)


@given(steps)
def test_the_least_loaded_is_picked_whatever_happened(history: list[tuple[str, int, int]]):
    policy = LeastLoaded()
    present: set[int] = set()
    own: Counter[int] = Counter()
    others: Counter[int] = Counter()
    for step, number, amount in history:
        if step == "add" and number not in present:
            policy.changed([worker(number)], [])
            present.add(number)
            if not own[number]:
                others[number] = 0
        elif step == "remove" and number in present:
            policy.changed([], [worker(number)])
            present.discard(number)
        elif step == "finish" and own[number]:
            policy.finished(worker(number), "done")
            own[number] -= 1
        elif step == "report" and number in present:
            policy.reported(worker(number), Load(amount, 0))
            others[number] = max(0, amount - own[number])
        elif step == "send":
            chosen = send(policy)
            assert (chosen is None) == (not present)
            if chosen is not None:
                assert own[chosen] + others[chosen] == min(own[one] + others[one] for one in present)
                own[chosen] += 1


class _CountingList(list[object]):
    """A list that counts who looks at all of it."""

    def __iter__(self):
        _Counting.looked += 1
        return super().__iter__()


class _CountingSet(set[int]):
    def __iter__(self):
        _Counting.looked += 1
        return super().__iter__()


class _Counting(dict[int, object]):
    """A table that counts who looks at it."""

    looked = 0

    def __iter__(self):
        _Counting.looked += 1
        return super().__iter__()

    def values(self):
        _Counting.looked += 1
        return super().values()

    def items(self):
        _Counting.looked += 1
        return super().items()


@pytest.mark.parametrize("make", [LeastLoaded, PowerOfTwo])
def test_no_request_looks_at_all_workers(make: Callable[[], RouterPolicy], monkeypatch: pytest.MonkeyPatch):
    policy = fleet(make, 500)
    monkeypatch.setattr(policy, "_known", _Counting(policy._known))  # type: ignore[attr-defined]
    if isinstance(policy, LeastLoaded):
        monkeypatch.setattr(policy, "_line_of", _Counting(policy._line_of))  # type: ignore[arg-type]
        monkeypatch.setattr(policy, "_lines", _Counting(policy._lines))  # type: ignore[arg-type]
        monkeypatch.setattr(policy, "_in_heap", _CountingSet(policy._in_heap))
    if isinstance(policy, PowerOfTwo):
        monkeypatch.setattr(policy, "_all", _CountingList(policy._all))
    _Counting.looked = 0
    for turn in range(1200):
        chosen = send(policy)
        assert chosen is not None
        policy.reported(worker(chosen), Load(turn % 7 * 100, 0))
    for number in range(500):
        policy.finished(worker(number), "done")
    assert _Counting.looked == 0


def test_reports_that_cannot_be_true_cost_little():
    policy = LeastLoaded()
    policy.changed([worker(0), worker(1)], [])
    for running in range(300_000):
        policy.reported(worker(0), Load(running * 1000, 0))
    assert len(policy._loads) <= 100_002
    assert send(policy) == 1
