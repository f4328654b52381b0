"""A plugin's codec that breaks its contract: its own exceptions arrive as PayloadError, on both sides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from reqplane import PayloadError
from reqplane.codecs import JsonCodec, MsgpackCodec
from reqplane.guarded import guarded
from reqplane.interfaces import PayloadCodec
from reqplane.model import Body

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
    fleet.codecs = {**CODECS, "careless": guarded(Careless())}
    fleet.codec = "careless"
    return fleet


async def several(request: Any) -> AsyncIterator[Any]:
    yield "good"
    yield request[::-1]
    yield "another"


def test_ours_are_used_as_they_are() -> None:
    for codec in (MsgpackCodec(), JsonCodec()):
        assert guarded(codec) is codec
    assert guarded(Careless()).name == "careless"


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
