"""Workers behind one address, such as a balancer's: one instance for all, or a record of each."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from reqplane import CannotConnect, Client, Stream, WorkerBusy, WorkerDraining, WrongInstance
from reqplane.errors import ReqplaneError
from reqplane.model import Change

from .conftest import Fleet


async def count(request: int):
    for i in range(request):
        yield i


class Times(dict[int, ReqplaneError]):
    """What sending to a worker fails with, so many times."""

    def __init__(self, incarnation: int, error: ReqplaneError, times: int) -> None:
        super().__init__({incarnation: error})
        self._left = times

    def __contains__(self, incarnation: object) -> bool:
        self._left -= 1
        return self._left >= 0


@pytest.fixture
async def client(fleet: Fleet) -> Client:
    fleet.add(count)
    fleet.instances[0] = dataclasses.replace(fleet.instances[0], shared=True)
    return fleet.client()


CALLS = {"generate": Client.generate, "direct": partial(Client.direct, instance_id=0)}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("times", [1, 8])
async def test_it_is_asked_again_when_one_of_them_is_leaving(
    fleet: Fleet, client: Client, call: Callable[..., Stream], times: int
) -> None:
    fleet.network.fail = Times(100, WorkerDraining("it leaves"), times)
    assert [item async for item in call(client, 3)] == [0, 1, 2]
    assert fleet.network.sent == [100] * (times + 1)
    assert not any("x-reqplane-instance" in headers for headers in fleet.network.headers)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_but_not_for_ever(fleet: Fleet, client: Client, call: Callable[..., Stream]) -> None:
    fleet.network.fail[100] = WorkerDraining("it leaves")
    with pytest.raises(WorkerDraining):
        await call(client, 3)
    assert fleet.network.sent == [100] * 9


@pytest.mark.parametrize("error", [CannotConnect("nobody listens"), ReqplaneError("something else")])
async def test_and_not_if_it_cannot_be_reached(fleet: Fleet, client: Client, error: Any) -> None:
    fleet.network.fail[100] = error
    with pytest.raises(type(error)):
        await client.generate(3)
    assert fleet.network.sent == [100]


# ── workers whose records all name the balancer ─────────────────────────────────────────────────────


@pytest.fixture
async def behind(fleet: Fleet) -> Client:
    """The client of three workers, to which a balancer sends frames in turn."""
    for _ in range(3):
        fleet.add(count)
    fleet.network.balancer = itertools.cycle((100, 101, 102))
    return fleet.client()


async def test_guide_37_a_call_to_one_certain_worker_is_sent_until_it_gets_there(
    fleet: Fleet, behind: Client
) -> None:
    for number in (2, 2, 0, 1):
        assert [item async for item in behind.direct(3, number)] == [0, 1, 2]
        assert fleet.network.sent[-1] == 100 + number
    assert len(fleet.network.sent) == 3 + 3 + 1 + 1


async def test_guide_37_also_when_the_balancer_chooses_at_random(fleet: Fleet, behind: Client) -> None:
    chance = random.Random(37)
    fleet.network.balancer = iter(lambda: chance.choice((100, 101, 102)), None)
    for _ in range(300):
        assert [item async for item in behind.direct(1, 1)] == [0]


async def test_but_not_for_ever_if_it_is_not_there(fleet: Fleet, behind: Client) -> None:
    fleet.network.balancer = itertools.cycle((100, 102))
    with pytest.raises(WrongInstance):
        await behind.direct(3, 1)
    assert len(fleet.network.sent) == 3 * 16 + 1


async def test_a_worker_alone_at_its_address_is_not_asked_again(fleet: Fleet, behind: Client) -> None:
    fleet.table._apply([Change(instance, up=False) for instance in fleet.instances[:2]])
    with pytest.raises(WrongInstance):
        await behind.direct(3, 2)
    assert fleet.network.sent == [100]
    assert dict(fleet.table._at) == {"balancer": 1}
    fleet.table._apply([Change(fleet.instances[2], up=False)])
    assert not fleet.table._at


@pytest.mark.parametrize("error", [WorkerDraining("it leaves"), WorkerBusy("full")])
async def test_guide_39_one_that_refuses_is_left_to_the_balancer(
    fleet: Fleet, behind: Client, error: ReqplaneError
) -> None:
    """Whom the record names says nothing of who refused, so no record is struck off for it."""
    fleet.network.fail[100] = error
    chance = random.Random(39)
    fleet.network.balancer = iter(lambda: chance.choice((100, 101, 102)), None)
    for _ in range(300):
        assert [item async for item in behind.round_robin(1)] == [0]


async def test_a_balancer_that_is_gone_is_not_asked_for_ever(fleet: Fleet, behind: Client) -> None:
    fleet.network.balancer = itertools.repeat(7)  # where nobody listens
    with pytest.raises(CannotConnect, match=r"tried ns\.comp\.ep/0, "):
        await behind.generate(1)
    assert len(fleet.network.sent) == 3
