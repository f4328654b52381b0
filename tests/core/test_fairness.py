"""A handler that never awaits shares the event loop with the others; counted in items, not in seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from .conftest import Fleet

ITEMS = 20_000
MOST = 500
"""Items that a handler may have sent by then.  Its budget is about 30 small ones, and a call takes a few
turns of the loop to get to its handler."""


class Turns:
    """How many items the greedy handler had made at each first item of the others."""

    def __init__(self) -> None:
        self.made = 0
        self.at: list[int] = []

    async def greedy(self, request: int) -> AsyncIterator[int]:
        for number in range(ITEMS):
            self.made = number
            yield number

    async def modest(self, request: int) -> AsyncIterator[str]:
        self.at.append(self.made)
        yield "first"


async def read(stream) -> list:
    return [item async for item in stream]


async def test_others_have_their_first_items_long_before_a_greedy_handlers_end(fleet: Fleet) -> None:
    turns = Turns()
    fleet.add(turns.greedy)
    fleet.add(turns.modest)
    client = fleet.client()
    greedy = await client.direct(0, 0)
    assert await asyncio.gather(*(read(client.direct(0, 1)) for _ in range(5))) == [["first"]] * 5
    assert len(turns.at) == 5
    assert max(turns.at) < MOST
    assert await read(greedy) == list(range(ITEMS))


async def test_greedy_handlers_go_on_side_by_side(fleet: Fleet) -> None:
    """None is more than a few turns ahead of another."""
    made = [0] * 8
    furthest = 0

    async def greedy(request: int) -> AsyncIterator[int]:
        nonlocal furthest
        for number in range(5000):
            made[request] = number
            if all(made):
                furthest = max(furthest, max(made) - min(made))
            yield number

    fleet.add(greedy)
    client = fleet.client()
    answers = await asyncio.gather(*(read(client.generate(number)) for number in range(8)))
    assert answers == [list(range(5000))] * 8
    assert furthest < 200


async def test_each_first_item_goes_out_before_anybodys_second(fleet: Fleet) -> None:
    """A second one is made, and waits until the others have had their turn."""
    order: list[int] = []
    ready = asyncio.Event()

    async def greedy(request: int) -> AsyncIterator[int]:
        await ready.wait()
        for number in range(5):
            order.append(number)
            yield number

    fleet.add(greedy)
    client = fleet.client()
    streams = [await client.generate(0) for _ in range(6)]
    while len(fleet.workers[0].running) < 6:
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)  # all of them wait
    ready.set()
    assert await asyncio.gather(*map(read, streams)) == [list(range(5))] * 6
    assert sorted(order[:12]) == [0] * 6 + [1] * 6
