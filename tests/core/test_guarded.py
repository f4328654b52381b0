"""Plugins that break their contracts: a codec's own exceptions arrive as PayloadError, a policy is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from typing import Any

import pytest
from reqplane import PayloadError, PluginBroken
from reqplane.balancing import LeastLoaded, PowerOfTwo
from reqplane.codecs import JsonCodec, MsgpackCodec
from reqplane.guarded import guarded_codec, guarded_policy
from reqplane.interfaces import PayloadCodec, RouterPolicy
from reqplane.model import Body, EndpointId, Instance, Load, Request
from reqplane.routing import Direct, Random, RoundRobin

from .conftest import CODECS, Fleet


class Careless(PayloadCodec):
    """Fails as code does that nobody has thought about."""

    name = "careless"

    def encode(self, value: Any) -> bytes:
        if value == "not bytes":
            return value  # type: ignore[no-any-return]
        if value == "can't be encoded":
            raise KeyError("encode")
        return CODECS["json"].encode(value)

    def decode(self, data: Body) -> Any:
        value = CODECS["json"].decode(data)
        if value == "can't be decoded":
            raise ZeroDivisionError
        return value


@pytest.fixture
def careless(fleet: Fleet) -> Fleet:
    fleet.codecs = {**CODECS, "careless": guarded_codec(Careless())}
    fleet.codec = "careless"
    return fleet


async def several(request: Any) -> AsyncIterator[Any]:
    yield "good"
    yield request[::-1]
    yield "another"


def test_ours_are_used_as_they_are() -> None:
    for codec in (MsgpackCodec(), JsonCodec()):
        assert guarded_codec(codec) is codec
    assert guarded_codec(Careless()).name == "careless"


@pytest.mark.parametrize("request_", ["can't be encoded", "not bytes", "can't be decoded"])
async def test_a_request(careless: Fleet, request_: str) -> None:
    careless.add(several)
    with pytest.raises(PayloadError) as caught:
        await anext(aiter(careless.client().generate(request_)))
    assert caught.value.index is None


@pytest.mark.parametrize("item", ["can't be encoded", "not bytes", "can't be decoded"])
@pytest.mark.parametrize("held", [True, False])
async def test_an_item(careless: Fleet, item: str, held: bool) -> None:
    careless.add(several)
    stream = careless.client().generate(item[::-1])
    if held:
        await stream
    items: list[Any] = []
    for _ in range(2):  # and it does not look complete the second time
        with pytest.raises(PayloadError) as caught:
            items += [item async for item in stream]
        assert caught.value.index == 1


# ── router policies ─────────────────────────────────────────────────────────────────────────────────


class ByColour(RoundRobin):
    """A router mode that wants more of a request than it has, and fails at all else."""

    name = "by_colour"

    def pick(self, request: Request, avoid: AbstractSet[int]) -> Any:
        return request.payload["colour"]

    def _fail(self, *arguments: Any) -> Any:
        raise RuntimeError("nobody has thought about this")

    changed = started = finished = reported = _fail  # pyright: ignore[reportAssignmentType]


def broken(problem: str) -> PluginBroken:
    return PluginBroken("by_colour", "acme", "pick", problem)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({}, "choosing a worker raised KeyError: 'colour'"),
        ({"colour": "red"}, "choosing a worker gave 'red'; wanted an Instance or None"),
    ],
)
async def test_a_router_mode_that_cannot_pick_is_named(fleet: Fleet, request_: Any, problem: str) -> None:
    client = fleet.client()
    client._policies = {"round_robin": guarded_policy(ByColour(), broken)}
    with pytest.raises(PluginBroken) as caught:
        await client.round_robin(request_)
    assert caught.value.problem == problem


def test_a_router_mode_that_cannot_count_costs_no_call(caplog: pytest.LogCaptureFixture) -> None:
    instance = Instance(EndpointId("a", "b", "c"), 0, 1, {})
    policy = guarded_policy(ByColour(), broken)
    for _ in range(2):
        policy.changed([instance], [])
        policy.started(instance)
        policy.finished(instance, "done")
        policy.reported(instance, Load(1, 0))
    assert policy.pick(Request({"colour": instance}), frozenset()) is instance
    assert [record.getMessage() for record in caplog.records] == ["the router mode by_colour failed in _fail"]


@pytest.mark.parametrize("policy", [RoundRobin(), Random(), LeastLoaded(), PowerOfTwo(), Direct()])
def test_our_own_policies_are_not_wrapped(policy: RouterPolicy) -> None:
    assert guarded_policy(policy, broken) is policy
