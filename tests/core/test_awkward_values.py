"""Values that are easily lost on the way arrive equal, as requests and as items, or are a PayloadError."""

from __future__ import annotations

import math
from typing import Any

import msgpack  # pyright: ignore[reportMissingTypeStubs]
import pytest
from reqplane.codecs import JsonCodec, MsgpackCodec
from reqplane.containers import MAX_CONTAINERS
from reqplane.errors import PayloadError

CODECS = {
    "msgpack": {"msgpack": MsgpackCodec(None), "json": JsonCodec(None)},
    "msgspec": {"msgpack": MsgpackCodec(), "json": JsonCodec()},
}


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


EVERYWHERE = {
    "none": None,
    "zero": 0,
    "false": False,
    "minus zero": -0.0,
    "empty text": "",
    "nul": "a\0b",
    "emoji": "\U0001f600",
    "line separator": "\u2028",
    "bom": "\ufeff",
    "escapes": '"\\/\b\x7f',
    "empty list": [],
    "empty map": {},
    "hollow": [[], {}, [None], {"": {}}],
    "largest of 64 bits": 2**64 - 1,
    "smallest of 64 bits": -(2**63),
    "tiny": 5e-324,
    "huge": 1.7976931348623157e308,
    "deep": nested(490),
    "like an envelope": {"data": {"event": "error"}, "complete_final": True, "event": "x", "id": None},
    "like our markers": {"sentinel": "sentinel", "error": None},
}
MSGPACK_ONLY = {
    "empty bytes": b"",
    "bytes": bytes(range(256)),
    "infinity": math.inf,
    "number key": {1: 1, "1": 2, 1.5: 3, None: 4, False: 5},
    "bytes key": {b"": b"x"},
    "tuple key": {(1, ("a", b"b")): 1},
}
JSON_ONLY = {
    "65 bits": 2**64,
    "65 bits below zero": -(2**63) - 1,
    "4300 digits": 10**4299,
}
NOWHERE = {
    "object": object(),
    "set": {1},
    "lone surrogate": "\ud800",
    "key with a lone surrogate": {"\udc00": 1},
    "too deep": nested(100_000),
    "complex": 1j,
}


def cases() -> list[Any]:
    """(codec, value, whether it arrives)."""
    msgpack = {**EVERYWHERE, **MSGPACK_ONLY}, {**NOWHERE, **JSON_ONLY}
    json = {**EVERYWHERE, **JSON_ONLY}, {**NOWHERE, **MSGPACK_ONLY, "nan": math.nan, "5000 digits": 10**4999}
    del json[1]["number key"]  # its keys become text, as in every JSON
    return [
        pytest.param(codec, value, arrives, id=f"{codec} {name}")
        for codec, sides in (("msgpack", msgpack), ("json", json))
        for values, arrives in zip(sides, (True, False), strict=True)
        for name, value in values.items()
    ]


@pytest.fixture(params=CODECS)
def library(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def calls(fleet, library: str):
    """A function that makes the fleet call in one codec, with or without envelopes."""

    async def echo(request):
        yield 0
        yield request

    def prepared(codec: str, enveloped: bool, value: Any = None):
        async def made(request):
            yield 1
            yield value

        fleet.codecs = CODECS[library]
        fleet.codec = codec
        fleet.network.enveloped = enveloped
        fleet.add(echo)
        fleet.add(made)
        return fleet.client()

    return prepared


async def items(stream: Any) -> list[Any]:
    return [item async for item in stream]


@pytest.mark.parametrize("enveloped", [False, True], ids=["plain", "enveloped"])
@pytest.mark.parametrize(("codec", "value", "arrives"), cases())
async def test_a_value_in_both_directions(calls, codec: str, value: Any, arrives: bool, enveloped: bool):
    client = calls(codec, enveloped, value)
    if arrives:
        assert await items(client.direct(value, 0)) == [0, value]
        assert await items(client.direct(None, 1)) == [1, value]
        return
    with pytest.raises(PayloadError, match="the request can't be carried") as caught:
        await items(client.direct(value, 0))
    assert caught.value.index is None
    with pytest.raises(PayloadError, match="item 1 of the answer can't be carried") as caught:
        await items(client.direct(None, 1))
    assert caught.value.index == 1


@pytest.mark.parametrize("value", [math.nan, -math.nan], ids=["nan", "-nan"])
async def test_nan_arrives_by_msgpack(calls, value: float):
    client = calls("msgpack", False, value)
    _, echoed = await items(client.direct(value, 0))
    assert math.isnan(echoed)
    assert math.copysign(1, echoed) == math.copysign(1, value)


async def test_a_minus_stays_with_its_zero(calls):
    for number, codec in enumerate(("msgpack", "json")):
        _, echoed = await items(calls(codec, False).direct(-0.0, 2 * number))
        assert math.copysign(1, echoed) == -1


async def test_types_stay_apart(calls):
    for number, codec in enumerate(("msgpack", "json")):
        _, echoed = await items(calls(codec, False).direct([True, 1, 1.0, "1", None], 2 * number))
        assert list(map(type, echoed)) == [bool, int, float, str, type(None)]


async def test_json_keys_become_text(calls):
    _, echoed = await items(calls("json", False).direct({1: 1, 1.5: 2, None: 3, False: 4}, 0))
    assert echoed == {"1": 1, "1.5": 2, "null": 3, "false": 4}


# ── what one side can write and the other refuses to read ──

UNREADABLE = [msgpack.ExtType(5, b"x"), [[]] * MAX_CONTAINERS]


@pytest.mark.parametrize("enveloped", [False, True], ids=["plain", "enveloped"])
@pytest.mark.parametrize("value", UNREADABLE, ids=["extension", "too many lists"])
async def test_what_cannot_be_read_tells_its_index(calls, value: Any, enveloped: bool):
    client = calls("msgpack", enveloped, value)
    with pytest.raises(PayloadError, match="item 1 of the answer can't be carried") as caught:
        await items(client.direct(None, 1))
    assert caught.value.index == 1
    with pytest.raises(PayloadError, match="the request can't be carried") as caught:
        await items(client.direct(value, 0))
    assert caught.value.index is None
