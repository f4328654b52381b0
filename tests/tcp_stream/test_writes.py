"""Writes are gathered: few system calls under load, and no waiting without it."""

from __future__ import annotations

import asyncio
from typing import Any

from reqplane.model import End, Prologue
from reqplane.wire import shared

from .conftest import Pair, a_turn


class Counting:
    """A transport that keeps what is written to it."""

    def __init__(self, connection: Any) -> None:
        self._transport = connection._transport
        self.writes: list[bytes] = []
        connection._transport = self

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))
        self._transport.write(data)

    def writelines(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def frames(self) -> list[list[int]]:
        """The kinds of the frames in each write."""
        return [[kind for kind, *_ in shared.SharedDecoder(1 << 20).feed(data)] for data in self.writes]


async def idle() -> None:
    """Until nothing of what was written is being gathered any more."""
    for _ in range(5):
        await a_turn()


async def test_a_lone_item_goes_out_at_once(pair: Pair):
    call = await pair.call()
    await call.pending.opened
    await idle()
    socket = Counting(pair.worker_end)
    for count in range(1, 4):
        call.home.write(b"item")
        assert len(socket.writes) == count  # in the same turn: nobody was waited for
        await idle()
    assert len(socket.writes) == 3


async def test_a_call_home_goes_out_at_once_and_the_rest_by_the_end_of_the_turn(pair: Pair):
    """The handler that is begun in this turn may compute for long."""
    await (await pair.call()).pending.opened
    await idle()
    socket = Counting(pair.worker_end)
    pending = pair.frontend.expect("r")
    home = await pair.worker.call_home(pending.info, lambda control: None)
    home.prologue(None)
    home.write(b"first")
    await a_turn()
    assert socket.frames() == [[shared.OPEN], [shared.PROLOGUE, shared.ITEM]]
    home.write(b"second")
    home.end()
    parts = await pending.receive()
    while End() not in parts:
        parts += await pending.receive()
    assert parts == [Prologue(), b"first", b"second", End()]


async def test_one_turn_of_64_streams_makes_two_writes(pair: Pair):
    calls = [await pair.call(str(index)) for index in range(64)]
    await calls[-1].pending.opened
    await idle()
    socket = Counting(pair.worker_end)
    for call in calls:
        for _ in range(4):
            call.home.write(b"item")
    await a_turn()
    assert [len(kinds) for kinds in socket.frames()] == [1, 255]
    for call in calls:
        call.home.end()
        assert await call.rest() == [b"item"] * 4 + [End()]


async def test_a_busy_connection_writes_once_a_turn(pair: Pair):
    calls = [await pair.call(str(index)) for index in range(16)]
    await calls[-1].pending.opened
    await idle()
    socket = Counting(pair.worker_end)

    async def handler(home: Any) -> None:
        for _ in range(50):
            home.write(b"item")
            await a_turn()
        home.end()

    await asyncio.gather(*(handler(call.home) for call in calls))
    await idle()
    assert len(socket.writes) <= 60
    assert sum(map(len, socket.frames())) == 16 * 51


async def test_large_items_are_not_copied_together(pair: Pair):
    call = await pair.call()
    await call.pending.opened
    await idle()
    socket = Counting(pair.worker_end)
    large = b"x" * 100_000
    call.home.write(b"small")
    call.home.write(large)
    call.home.write(b"small")
    await a_turn()
    assert socket.writes[0] == shared.head(shared.ITEM, 1, 5) + b"small"
    assert socket.writes[1:3] == [shared.head(shared.ITEM, 1, len(large)), large]
    assert len(socket.writes) == 4


async def test_credit_control_and_pongs_are_gathered_too(pair: Pair):
    calls = [await pair.call(str(index)) for index in range(10)]
    await calls[-1].pending.opened
    await idle()
    socket = Counting(pair.frontend_end)
    for call in calls:
        call.pending.stop()
    pair.frontend_end.answer_ping()
    await a_turn()
    assert [len(kinds) for kinds in socket.frames()] == [1, 10]
