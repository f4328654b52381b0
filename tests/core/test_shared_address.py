"""An instance that is an address which several workers share, such as a balancer's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from reqplane import CannotConnect, Client, Stream, WorkerDraining
from reqplane.errors import ReqplaneError

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
