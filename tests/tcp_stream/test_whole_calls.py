"""Whole calls over http, each form of the response connection: programs can't tell which it was."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import reqplane
from reqplane import DeadlineExceeded, HandlerFailed, PayloadError, StreamBroken
from reqplane_tcp_stream.transport import TcpStreamTransport

from .conftest import until

ENV = {
    "DYN_REQUEST_PLANE": "http",
    "DYN_DISCOVERY_BACKEND": "mem",
    "DYN_HTTP_RPC_HOST": "127.0.0.1",
    "DYN_HTTP_RPC_PORT": "0",
    "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
    "DYN_TCP_RESPONSE_STREAM_PORT": "0",
}


class Handler:
    """Does what the request says, and notes how it ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def __call__(self, request: Any, context: reqplane.Context):
        try:
            for item in request.get("items", []):
                yield item
            if "size" in request:
                yield b"x" * request["size"]
            if "fail" in request:
                raise ValueError(request["fail"])
            while request.get("endless"):
                yield b"x" * request["endless"]
                if context.is_stopped():
                    return
                await asyncio.sleep(0)
            self.ended.append("end")
        finally:
            self.ended.append("out")


class Both:
    """A worker and a client, in two runtimes of this process."""

    def __init__(self, client: reqplane.Client, handler: Handler) -> None:
        self.client = client
        self.handler = handler

    @property
    def response(self) -> TcpStreamTransport:
        response = self.client.calling.response
        assert isinstance(response, TcpStreamTransport)
        return response

    async def items(self, request: Any, **more: Any) -> list[Any]:
        return [item async for item in self.client.generate(request, **more)]


@asynccontextmanager
async def both(
    form: str, codec: str, frontend: dict[str, str] | None = None, worker: dict[str, str] | None = None
) -> AsyncGenerator[Both]:
    handler = Handler()
    env = {**ENV, "DYN_REQUEST_PLANE_CODEC": codec}
    async with (
        reqplane.connect({**env, **(worker or {})}) as serving,
        reqplane.connect({**env, **(frontend or {})}) as calling,
    ):
        task = asyncio.ensure_future(serving.endpoint("ns.comp.ep").serve_endpoint(handler))
        client = await calling.endpoint("ns.comp.ep").client()
        await client.wait_for_instances(timeout=5)
        pair = Both(client, handler)
        if form == "single":
            pair.response._subjects.offer = None
        yield pair
        await until(lambda: form == "shared" or not pair.response._connections)
        serving.shutdown()
        await task


@pytest.fixture(params=["shared", "single"])
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["msgpack", "json"])
def codec(request: pytest.FixtureRequest) -> str:
    return request.param


AWKWARD: list[Any] = [None, True, 0, -1.5, "", "ä", [], {}, {"data": {"data": 1}}, {"complete_final": True}]


async def test_items(form: str, codec: str):
    async with both(form, codec) as pair:
        answers = await asyncio.gather(*(pair.items({"items": [*AWKWARD, n]}) for n in range(20)))
        assert answers == [[*AWKWARD, n] for n in range(20)]
        assert await pair.items({}) == []
        annotated = await pair.items({"items": [7]}, annotated=True)
        assert [item.data() for item in annotated] == [7]


async def test_large_items(form: str):
    async with both(form, "msgpack") as pair:
        for size in (65_536, 3_000_000):
            assert await pair.items({"size": size}) == [b"x" * size]


async def test_a_handler_that_fails(form: str, codec: str):
    async with both(form, codec) as pair:
        for before in ([], [1, 2]):
            with pytest.raises(HandlerFailed, match="ValueError: no such model") as caught:
                await pair.items({"items": before, "fail": "no such model"})
            assert caught.value.items_received == len(before)


async def test_a_value_that_cannot_be_carried(form: str):
    async with both(form, "msgpack") as pair:
        with pytest.raises(PayloadError) as caught:
            await pair.items({"items": [1], "size": 40 << 20})
        assert caught.value.index == 1
        assert await pair.items({"items": [math.inf]}) == [math.inf]


async def test_leaving_the_loop_ends_the_handler(form: str):
    async with both(form, "msgpack") as pair:
        async for _ in pair.client.generate({"endless": 1000}):
            break
        await until(lambda: pair.handler.ended == ["out"])


async def test_stopping_is_a_regular_end(form: str):
    async with both(form, "msgpack") as pair:
        stream = await pair.client.generate({"endless": 10})
        async for _ in stream:
            stream.stop_generating()
        assert pair.handler.ended == ["out"]


async def test_a_deadline(form: str):
    async with both(form, "msgpack") as pair:
        with pytest.raises(DeadlineExceeded):
            await pair.items({"endless": 10}, timeout=0.3)
        await until(lambda: pair.handler.ended)


async def test_a_slow_reader_holds_the_handler_back(form: str):
    async with both(form, "msgpack", {"DYN_STREAM_WINDOW_BYTES": "10000"}) as pair:
        stream = await pair.client.generate({"items": [b"x" * 5000] * 4000})
        count = 0
        async for _ in stream:
            count += 1
            if count == 1:
                await asyncio.sleep(0.3)
                assert pair.handler.ended == []
        assert count == 4000


async def test_a_lost_connection_breaks_the_answer(form: str):
    async with both(form, "msgpack") as pair:
        items = (await pair.client.generate({"endless": 10})).__aiter__()
        await anext(items)
        for connection in list(pair.response._connections):
            connection.give_up("by the test")

        async def rest_of_it() -> None:
            while True:
                await anext(items)

        with pytest.raises(StreamBroken, match="by the test") as caught:
            await asyncio.wait_for(rest_of_it(), 10)
        assert caught.value.items_received >= 1
        await until(lambda: pair.handler.ended == ["out"])
        assert await pair.items({"items": [1]}) == [1]


# ── limits of the two sides that differ ──


@pytest.mark.parametrize("smaller", ["frontend", "worker"])
async def test_an_item_above_the_smaller_limit_fails_its_own_call(smaller: str):
    async with both("shared", "msgpack", **{smaller: {"DYN_MAX_FRAME_BYTES": "100000"}}) as pair:
        other = await pair.client.generate({"endless": 10})
        items = other.__aiter__()
        await anext(items)
        assert await pair.items({"size": 99_990}) == [b"x" * 99_990]
        for before in (0, 3):
            with pytest.raises(PayloadError, match=r"at most 100000 .*DYN_MAX_FRAME_BYTES") as caught:
                await pair.items({"items": [1] * before, "size": 100_001})
            assert caught.value.index == before
        await anext(items)  # everybody else's connection still stands
        await other.aclose()
