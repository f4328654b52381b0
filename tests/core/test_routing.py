"""The router policies: fair, stable, and round those that were tried."""

from __future__ import annotations

from collections import Counter

import pytest
from reqplane.interfaces import RouterPolicy
from reqplane.model import EndpointId, Instance, Request
from reqplane.routing import Direct, Random, RoundRobin

ENDPOINT = EndpointId("default", "backend", "generate")
REQUEST = Request({})
NOBODY: frozenset[int] = frozenset()


def worker(incarnation: int, instance_id: int | None = None) -> Instance:
    return Instance(ENDPOINT, incarnation if instance_id is None else instance_id, incarnation, {})


def picks(policy: RouterPolicy, count: int, avoid: frozenset[int] = NOBODY) -> list[int | None]:
    chosen = [policy.pick(REQUEST, avoid) for _ in range(count)]
    return [instance.incarnation if instance else None for instance in chosen]


@pytest.fixture
def in_turn() -> RoundRobin:
    policy = RoundRobin()
    policy.changed([worker(1), worker(2), worker(3)], [])
    return policy


@pytest.mark.parametrize("policy", [RoundRobin(), Random()], ids=lambda policy: policy.name)
def test_nobody_to_pick(policy: RouterPolicy):
    assert policy.pick(REQUEST, NOBODY) is None
    policy.changed([worker(1)], [])
    assert policy.pick(REQUEST, frozenset({1})) is None
    policy.changed([], [worker(1)])
    assert policy.pick(REQUEST, NOBODY) is None


def test_each_in_turn(in_turn: RoundRobin):
    assert picks(in_turn, 7) == [1, 2, 3, 1, 2, 3, 1]


def test_one_that_was_tried_is_passed_over(in_turn: RoundRobin):
    assert picks(in_turn, 4, frozenset({2})) == [1, 3, 1, 3]
    assert picks(in_turn, 2, frozenset({1, 2, 3})) == [None, None]


def test_turns_go_on_when_workers_come_and_go(in_turn: RoundRobin):
    assert picks(in_turn, 2) == [1, 2]
    in_turn.changed([worker(4)], [worker(1)])
    assert picks(in_turn, 4) == [3, 4, 2, 3]
    in_turn.changed([], [worker(4)])
    assert picks(in_turn, 3) == [2, 3, 2]


def test_a_newcomer_gets_the_next_turn_at_the_end_of_a_round(in_turn: RoundRobin):
    picks(in_turn, 3)
    in_turn.changed([worker(4)], [])
    assert picks(in_turn, 2) == [4, 1]


def test_a_process_stands_in_the_list_once(in_turn: RoundRobin):
    in_turn.changed([worker(2, instance_id=7)], [])
    chosen = [in_turn.pick(REQUEST, NOBODY) for _ in range(3)]
    assert [instance.instance_id for instance in chosen if instance] == [1, 7, 3]


def test_a_new_record_keeps_its_place(in_turn: RoundRobin):
    in_turn.changed([worker(2, instance_id=7)], [worker(2)])
    assert picks(in_turn, 3) == [1, 2, 3]


def test_removing_a_stranger_changes_nothing(in_turn: RoundRobin):
    in_turn.changed([], [worker(9)])
    assert picks(in_turn, 3) == [1, 2, 3]


def test_random_is_even():
    policy = Random()
    policy.changed([worker(number) for number in range(4)], [])
    counts = Counter(picks(policy, 4000))
    assert set(counts) == {0, 1, 2, 3}
    assert min(counts.values()) > 800


def test_random_is_even_among_the_untried():
    policy = Random()
    policy.changed([worker(number) for number in range(4)], [])
    counts = Counter(picks(policy, 3000, frozenset({0})))
    assert set(counts) == {1, 2, 3}
    assert min(counts.values()) > 800


def test_direct_picks_nobody():
    policy = Direct()
    policy.changed([worker(1)], [])
    with pytest.raises(ValueError, match=r"needs client\.direct\(request, instance_id\)"):
        policy.pick(REQUEST, NOBODY)
