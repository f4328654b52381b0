"""The timer wheel."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from reqplane.timers import TICK, TimerWheel


@pytest.fixture
async def wheel() -> TimerWheel:
    return TimerWheel(asyncio.get_running_loop())


class SteppedLoop:
    """A loop whose clock a test turns, so that lateness can be told exactly."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.handles: list[SteppedHandle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> SteppedHandle:
        handle = SteppedHandle(self, when, call)
        self.handles.append(handle)
        return handle

    def step(self, seconds: float) -> None:
        """Let time pass, calling what is due on the way at the moment that it is due."""
        end = self.now + seconds
        while self.handles and min(handle.when for handle in self.handles) <= end:
            first = min(self.handles, key=lambda handle: handle.when)
            self.handles.remove(first)
            self.now = max(self.now, first.when)
            first.call()
        self.now = end


class SteppedHandle:
    def __init__(self, loop: SteppedLoop, when: float, call: Callable[[], None]) -> None:
        self.loop, self.when, self.call = loop, when, call

    def cancel(self) -> None:
        if self in self.loop.handles:
            self.loop.handles.remove(self)


@pytest.fixture
def stepped() -> Iterator[tuple[SteppedLoop, TimerWheel]]:
    loop = SteppedLoop()
    wheel = TimerWheel(loop)  # type: ignore[arg-type]
    yield loop, wheel
    wheel.close()
    assert not loop.handles


def test_never_early_and_two_ticks_late_at_most(stepped: tuple[SteppedLoop, TimerWheel]):
    loop, wheel = stepped
    fired: list[tuple[float, float]] = []
    numbers = random.Random(7)
    wanted = [loop.now + numbers.random() * 3 for _ in range(2000)]
    wanted += [loop.now + index * TICK for index in range(300)]  # exactly on a tick
    for when in wanted:
        wheel.at(when, lambda when=when: fired.append((when, loop.now)))
    loop.step(4)
    assert sorted(when for when, _ in fired) == sorted(wanted)
    for when, now in fired:
        assert when - 1e-6 <= now <= when + 2 * TICK


def test_in_the_order_of_their_ticks(stepped: tuple[SteppedLoop, TimerWheel]):
    loop, wheel = stepped
    fired: list[int] = []
    for index in (5, 1, 4, 2, 3):
        wheel.at(loop.now + index * 0.1, lambda index=index: fired.append(index))
    loop.step(1)
    assert fired == [1, 2, 3, 4, 5]


def test_one_in_the_past_fires_at_once(stepped: tuple[SteppedLoop, TimerWheel]):
    loop, wheel = stepped
    fired: list[str] = []
    wheel.at(loop.now + 1, lambda: fired.append("later"))
    wheel.at(loop.now - 5, lambda: fired.append("past"))
    loop.step(0)
    assert fired == ["past"]


def test_an_earlier_one_is_not_kept_waiting(stepped: tuple[SteppedLoop, TimerWheel]):
    loop, wheel = stepped
    fired: list[str] = []
    wheel.at(loop.now + 10, lambda: fired.append("later"))
    wheel.at(loop.now + 1, lambda: fired.append("sooner"))
    loop.step(1.1)
    assert fired == ["sooner"]
    loop.step(10)
    assert fired == ["sooner", "later"]


def test_one_that_a_call_sets_does_not_keep_sooner_ones_waiting(stepped: tuple[SteppedLoop, TimerWheel]):
    loop, wheel = stepped
    fired: list[str] = []

    def set_one() -> None:
        wheel.at(loop.now + 10, lambda: fired.append("later"))

    wheel.at(loop.now + 1, set_one)
    wheel.at(loop.now + 2, lambda: fired.append("sooner"))
    loop.step(2.1)
    assert fired == ["sooner"]
    loop.step(10)
    assert fired == ["sooner", "later"]


def test_a_timer_fires_once_and_may_start_the_next(stepped: tuple[SteppedLoop, TimerWheel]):
    loop, wheel = stepped
    fired: list[float] = []

    def again() -> None:
        fired.append(loop.now)
        if len(fired) < 5:
            wheel.at(loop.now + 0.1, again)

    wheel.at(loop.now + 0.1, again)
    loop.step(2)
    assert len(fired) == 5
    for before, after in itertools.pairwise(fired):
        assert 0.1 - 1e-6 <= after - before <= 0.1 + 2 * TICK


def test_a_cancelled_timer_is_out_of_its_bucket(stepped: tuple[SteppedLoop, TimerWheel]):
    loop, wheel = stepped
    fired: list[str] = []
    timer = wheel.at(loop.now + 1, lambda: fired.append("cancelled"))
    stays = wheel.at(loop.now + 1, lambda: fired.append("stays"))
    timer.cancel()
    timer.cancel()
    assert list(wheel._buckets.values()) == [{stays}]
    loop.step(2)
    assert fired == ["stays"]
    stays.cancel()  # harmless after it fired
    assert not wheel._buckets


def test_one_may_cancel_another_of_its_bucket(stepped: tuple[SteppedLoop, TimerWheel]):
    loop, wheel = stepped
    fired: list[int] = []

    def fire(index: int) -> None:
        fired.append(index)
        timers[1 - index].cancel()

    timers = [wheel.at(loop.now + 1, lambda index=index: fire(index)) for index in range(2)]
    loop.step(2)
    assert len(fired) == 1


def test_one_that_raises_does_not_stop_the_others(
    stepped: tuple[SteppedLoop, TimerWheel], caplog: pytest.LogCaptureFixture
):
    loop, wheel = stepped
    fired: list[int] = []

    def broken() -> None:
        raise RuntimeError("a defect")

    for index in range(10):
        wheel.at(loop.now + 1, lambda index=index: fired.append(index))
        wheel.at(loop.now + 1, broken)
    wheel.at(loop.now + 1.5, lambda: fired.append(10))
    loop.step(2)
    assert sorted(fired) == list(range(11))
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["a defect"] * 10


def test_after_close_nothing_fires(stepped: tuple[SteppedLoop, TimerWheel]):
    loop, wheel = stepped
    fired: list[int] = []
    timers = [wheel.at(loop.now + index, lambda: fired.append(1)) for index in range(5)]
    wheel.close()
    wheel.close()
    for timer in timers:
        timer.cancel()
    loop.step(10)
    assert not fired
    assert not loop.handles
    assert not wheel._buckets


def test_timers_of_one_tick_share_an_entry_in_the_loop(stepped: tuple[SteppedLoop, TimerWheel]):
    loop, wheel = stepped
    for index in range(1000):
        wheel.at(loop.now + 5 + index * TICK / 1001, lambda: None)
    assert len(loop.handles) == 1
    assert len(wheel._buckets) <= 2


async def test_on_a_real_loop(wheel: TimerWheel):
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    start = loop.time()
    wheel.at(start + 0.05, lambda: done.set_result(loop.time() - start))
    assert await asyncio.wait_for(done, 10) >= 0.05


async def test_100_000_at_and_cancel_leave_no_memory(wheel: TimerWheel):
    """As calls with a deadline do it: made, and cancelled a moment later."""
    loop = asyncio.get_running_loop()

    def a_second_of_calls(start: float) -> None:
        for index in range(100_000):
            wheel.at(start + index / 100_000, lambda: None).cancel()

    start = loop.time() + 30
    a_second_of_calls(start)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        a_second_of_calls(start)
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()
    assert not any(wheel._buckets.values())
    assert len(wheel._buckets) <= 102
    assert sum(map(sys.getsizeof, wheel._buckets.values())) < 100_000
    wheel.close()


async def test_closing_from_within_a_timer_stops_the_rest_of_its_bucket() -> None:
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop)
    fired: list[int] = []

    def fire(number: int) -> None:
        fired.append(number)
        wheel.close()

    when = loop.time() + 0.01
    for number in range(5):
        wheel.at(when, lambda number=number: fire(number))
    await asyncio.sleep(0.05)
    assert len(fired) == 1


async def test_a_timer_for_never_costs_nothing_and_never_fires() -> None:
    wheel = TimerWheel(asyncio.get_running_loop())
    wheel.at(math.inf, lambda: None).cancel()
    assert not wheel._buckets
    wheel.close()
