"""The table of workers: removals that may be wrong, and records that overtake each other."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator

import pytest
from memory_planes import eventually
from reqplane.client import Client
from reqplane.errors import CannotConnect, DeliveryUnknown, NoInstances, WorkerBusy, WorkerDraining
from reqplane.model import Change, EndpointId, Instance

HOLD = 0.2
LONG = 60.0


@pytest.fixture
async def pair(fleet):
    """Two workers that say who they are."""
    for name in "ab":
        fleet.add(one_that_says(name))
    return fleet


def one_that_says(name: str):
    async def who(request: object):
        yield name

    return who


async def ask(client: Client) -> str:
    (answer,) = [item async for item in client.generate({})]
    return answer


def gone(pair, number: int, hold: float = 0.0) -> Change:
    return Change(pair.instances[number], up=False, hold=hold)


# ── removals that may be wrong ──


async def test_a_removal_that_is_sure_takes_effect_at_once(pair):
    client = pair.client()
    pair.table._apply([gone(pair, 0)])
    assert client.instance_ids() == [1]
    assert {await ask(client) for _ in range(4)} == {"b"}


async def test_a_held_worker_stays_in_use_until_the_time_is_up(pair):
    client = pair.client()
    pair.table._apply([gone(pair, 0, HOLD)])
    assert {await ask(client) for _ in range(4)} == {"a", "b"}
    await eventually(lambda: client.instance_ids() == [1])
    assert {await ask(client) for _ in range(4)} == {"b"}


async def test_the_hold_counts_from_the_first_removal(pair):
    client = pair.client()
    pair.table._apply([gone(pair, 0, HOLD)])
    pair.table._apply([gone(pair, 0, LONG)])
    await eventually(lambda: client.instance_ids() == [1], within=5)


async def test_a_removal_that_is_sure_ends_a_hold(pair):
    client = pair.client()
    pair.table._apply([gone(pair, 0, LONG)])
    pair.table._apply([gone(pair, 0)])
    assert client.instance_ids() == [1]
    assert not pair.table._held


async def test_a_held_worker_that_comes_back_stays_for_good(pair):
    client = pair.client()
    pair.table._apply([gone(pair, 0, HOLD)])
    pair.table._apply([Change(pair.instances[0], up=True)])
    await asyncio.sleep(HOLD + 0.1)
    assert client.instance_ids() == [0, 1]


async def test_a_held_worker_that_comes_back_under_another_number_has_only_that(pair):
    client = pair.client()
    pair.table._apply([gone(pair, 0, HOLD)])
    pair.table._apply([Change(dataclasses.replace(pair.instances[0], instance_id=7), up=True)])
    await asyncio.sleep(HOLD + 0.1)
    assert client.instance_ids() == [1, 7]
    assert pair.table.by_id(0) is None


async def test_a_held_worker_that_says_in_its_record_that_it_drains_goes_at_once(pair):
    client = pair.client()
    pair.table._apply([gone(pair, 0, LONG)])
    pair.table._apply([Change(dataclasses.replace(pair.instances[0], draining=True), up=True)])
    assert client.instance_ids() == [1]
    assert not pair.table._held


@pytest.mark.parametrize("error", [CannotConnect("refused", address="there"), WorkerDraining("it leaves")])
async def test_a_held_worker_that_refuses_connections_or_drains_goes_at_the_first_call(
    pair, error: CannotConnect | WorkerDraining
):
    client = pair.client()
    pair.table._apply([gone(pair, 0, LONG)])
    pair.network.fail[100] = error
    assert [await ask(client) for _ in range(4)] == ["b"] * 4
    assert client.instance_ids() == [1]
    assert pair.network.sent.count(100) == 1


async def test_a_held_worker_that_is_busy_stays(pair):
    client = pair.client()
    pair.table._apply([gone(pair, 0, LONG)])
    pair.network.fail[100] = WorkerBusy("no room")
    assert [await ask(client) for _ in range(4)] == ["b"] * 4
    assert client.instance_ids() == [0, 1]


async def test_a_held_worker_whose_ack_stays_out_stays(pair):
    """It may be slow; that it took the request is not excluded, so nobody else is asked."""
    client = pair.client()
    pair.table._apply([gone(pair, 0, LONG)])
    pair.network.fail[100] = DeliveryUnknown("timed_out", "no ack")
    with pytest.raises(DeliveryUnknown):
        await ask(client)
    assert client.instance_ids() == [0, 1]


async def test_a_worker_that_is_not_held_is_not_dropped_for_refusing(pair):
    """Its record stands in discovery, which is sure of it: it may only be starting."""
    client = pair.client()
    pair.network.fail[100] = CannotConnect("refused", address="there")
    assert [await ask(client) for _ in range(4)] == ["b"] * 4
    assert client.instance_ids() == [0, 1]


async def test_the_last_ones_that_leave_are_found_out_by_one_call_each(pair):
    """An endpoint that is emptied is held, and yet nobody is asked twice."""
    client = pair.client()
    pair.table._apply([gone(pair, number, LONG) for number in (0, 1)])
    for number in (0, 1):
        pair.network.fail[100 + number] = WorkerDraining("it leaves")
    with pytest.raises(WorkerDraining) as caught:
        await ask(client)
    assert caught.value.tried == ("ns.comp.ep/0", "ns.comp.ep/1")
    with pytest.raises(NoInstances):
        await ask(client)
    assert sorted(pair.network.sent) == [100, 101]


async def test_a_hold_for_a_worker_that_is_not_known_is_nothing(pair):
    client = pair.client()
    pair.table._apply([Change(Instance(EndpointId("ns", "comp", "ep"), 9, 999, {}), up=False, hold=HOLD)])
    assert client.instance_ids() == [0, 1]
    assert not pair.table._held


async def test_the_number_of_a_held_worker_may_go_to_another(pair):
    """`direct` means the newcomer; the old one goes on being used for other calls, then goes alone."""
    client = pair.client()
    pair.table._apply([gone(pair, 0, HOLD)])
    newcomer = dataclasses.replace(pair.instances[0], incarnation=101_000)
    pair.table._apply([Change(newcomer, up=True)])
    assert client.instance_ids() == [0, 0, 1]
    assert pair.table.by_id(0).instance is newcomer
    await eventually(lambda: client.instance_ids() == [0, 1])
    assert pair.table.by_id(0).instance is newcomer
    assert pair.table.worker(100) is None


# ── records that overtake each other ──


async def test_a_former_number_that_goes_does_not_take_its_worker_along(pair):
    """It has registered again under another number before its old record went."""
    client = pair.client()
    pair.table._apply([Change(dataclasses.replace(pair.instances[0], instance_id=7), up=True)])
    pair.table._apply([gone(pair, 0)])
    assert client.instance_ids() == [1, 7]
    pair.table._apply([gone(pair, 0, HOLD)])
    await asyncio.sleep(HOLD + 0.1)
    assert client.instance_ids() == [1, 7]
    assert {await ask(client) for _ in range(4)} == {"a", "b"}


# ── listings ──


async def test_a_listing_after_a_watch_that_broke_is_heeded(pair):
    """What it does not hold is gone, and what is still held waits for its time."""
    batches: asyncio.Queue[list[Change] | None] = asyncio.Queue()

    async def watch(endpoint: EndpointId | None) -> AsyncGenerator[list[Change], None]:
        while (batch := await batches.get()) is not None:
            yield batch

    client = pair.client()
    pair.table._discovery.watch = watch  # type: ignore[method-assign]
    following = asyncio.ensure_future(pair.table.follow())
    batches.put_nowait([Change(one, up=True) for one in pair.instances])
    batches.put_nowait([gone(pair, 0, LONG)])
    await eventually(lambda: len(pair.table._held) == 1)
    batches.put_nowait(None)
    batches.put_nowait([Change(pair.instances[1], up=True)])
    await eventually(lambda: client.instance_ids() == [1])
    following.cancel()


async def test_a_broker_that_is_away_says_nothing_of_a_held_worker(pair):
    client = pair.client()
    pair.table._apply([gone(pair, 0, LONG)])
    error = CannotConnect("no connection to the broker", address="there")
    error.by_worker = False
    pair.network.fail[100] = error
    await ask(client)
    assert client.instance_ids() == [0, 1]
