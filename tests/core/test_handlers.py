"""The kinds of functions that can be served."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from typing import Any

import pytest
from memory_planes import eventually
from reqplane import handlers
from reqplane.context import Context
from reqplane.handlers import adapt


async def run(function: Any, request: Any = 3) -> list[Any]:
    return [item async for item in adapt(function)(request, Context())]


async def generator(request):
    for i in range(request):
        yield i


async def with_context(request, context):
    yield context.id


async def coroutine(request):
    return request


def plain_generator(request, context):
    yield from range(request)


class Callable:
    async def __call__(self, request, context):
        yield request

    async def method(self, request):
        yield request


@pytest.mark.parametrize(
    ("function", "items"),
    [
        (generator, [0, 1, 2]),
        (coroutine, [3]),
        (plain_generator, [0, 1, 2]),
        (Callable(), [3]),
        (Callable().method, [3]),
        (functools.partial(coroutine), [3]),
    ],
)
async def test_each_kind_gives_its_items(function, items) -> None:
    assert await run(function) == items


async def test_a_context_is_given_to_those_who_take_one() -> None:
    (found,) = await run(with_context)
    assert len(found) == 36


@pytest.mark.parametrize("wrong", [lambda request: request, print, 7, "generate", None, generator(1)])
def test_anything_else_is_a_type_error(wrong) -> None:
    with pytest.raises(TypeError):
        adapt(wrong)


def test_a_handler_that_takes_no_request_is_a_type_error_that_says_so() -> None:
    async def nothing():
        yield 1

    with pytest.raises(TypeError, match="a handler takes"):
        adapt(nothing)


# ── generators in threads ──


async def test_a_generator_may_block_without_holding_the_loop_up() -> None:
    def blocks(request):
        for i in range(3):
            time.sleep(0.02)
            yield i, threading.current_thread() is threading.main_thread()

    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticking = asyncio.ensure_future(tick())
    assert await run(blocks) == [(0, False), (1, False), (2, False)]
    ticking.cancel()
    assert ticks > 5


async def test_what_a_generator_raises_is_raised() -> None:
    def fails(request):
        yield 1
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await run(fails)


async def test_a_generator_is_closed_when_it_is_left_and_does_not_run_far_ahead() -> None:
    made, closed = [], threading.Event()

    def endless(request):
        try:
            while True:
                made.append(1)
                yield 1
        finally:
            closed.set()

    items = adapt(endless)(None, Context())
    async for _ in items:
        break
    await asyncio.sleep(0.05)
    assert len(made) < 40
    await items.aclose()  # type: ignore[attr-defined]
    await eventually(closed.is_set)


async def test_many_generators_at_once() -> None:
    def several(request):
        yield from range(100)

    answers = await asyncio.gather(*(run(several) for _ in range(100)))
    assert answers == [list(range(100))] * 100


async def test_a_generator_that_nobody_reads_any_more_counts_until_its_thread_has_ended(monkeypatch) -> None:
    monkeypatch.setattr(handlers, "_MAX_THREADS", 2)
    goes_on = threading.Event()
    blocked: list[int] = []

    def blocks(request):
        yield request
        blocked.append(request)
        goes_on.wait(10)

    handler = adapt(blocks)
    for number in range(2):
        left = handler(number, Context())
        assert await anext(left) == number
        await eventually(lambda number=number: number in blocked)
        await left.aclose()  # type: ignore[attr-defined]
    third = asyncio.ensure_future(anext(handler(2, Context())))
    await asyncio.sleep(0.05)
    assert not third.done()
    goes_on.set()
    assert await third == 2
