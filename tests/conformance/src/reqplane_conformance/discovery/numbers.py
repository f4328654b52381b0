"""Workers get numbers: the lowest that are free, and no number is given twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from reqplane.interfaces import Discovery, Registration

from reqplane_conformance.case import case
from reqplane_conformance.discovery.hooks import DiscoverySuite
from reqplane_conformance.discovery.stage import DiscoveryStage, Worker, going_well
from reqplane_conformance.verdict import check

_TAKING = "`reserve`: how it finds a number, and that finding and taking it are one step"


class NumberCases(DiscoverySuite, suite=True):
    """Numbers."""

    group = "numbers"

    @case()
    async def test_a_whole_life(self, stage: DiscoveryStage) -> None:
        """A worker can reserve, publish, publish again and withdraw, also where none of it has an effect."""
        worker = await stage.worker(await stage.backend())
        check(
            not worker.registration.lost.done(),
            did="`lost` of a new registration was done",
            wanted="a future that is done when the registration ends without `withdraw`",
            look="what `reserve` sets as `lost`",
        )
        for address in ("a:1", "b:2"):
            await worker.publish(address)
        await worker.withdraw()
        check(
            not worker.registration.lost.done(),
            did="`lost` was done after `withdraw`",
            wanted="what was withdrawn is not lost",
            look="`withdraw`, and what else ends a registration",
        )

    @case(needs=("registers",), priority=3)
    async def test_lowest_free(self, stage: DiscoveryStage) -> None:
        """A worker gets the lowest number that is free, from 0; each endpoint counts for itself."""
        backend = await stage.backend()
        workers = [await stage.worker(backend) for _ in range(4)]
        _check_numbers("four workers of an endpoint", workers, [0, 1, 2, 3])
        other = await stage.worker(backend, stage.path("embed"))
        _check_numbers("the first worker of another endpoint", [other], [0])
        await workers[1].publish()
        await workers[1].withdraw()
        later = [await stage.worker(backend) for _ in range(2)]
        _check_numbers("two more, when number 1 of 0 to 3 had been withdrawn,", later, [1, 4])

    @case(needs=("registers",))
    async def test_none_twice(self, stage: DiscoveryStage) -> None:
        """Of twenty workers that reserve at once, by four opened backends, each gets a number of its own."""
        backends = [await stage.backend() for _ in range(4)]
        taking = [stage.worker(backend) for _ in range(5) for backend in backends]
        check_distinct([worker.number for worker in await asyncio.gather(*taking)])

    @case(needs=("registers",))
    async def test_free_after_withdraw(self, stage: DiscoveryStage) -> None:
        """A withdrawn number is free for everybody, whether it had a record or not."""
        backend, other = await stage.backend(), await stage.backend()
        for has_record in (True, False):
            worker = await stage.worker(backend)
            if has_record:
                await worker.publish()
            await worker.withdraw()
            successor = await stage.worker(other)
            word = "with" if has_record else "without"
            _check_numbers(f"who came after a worker {word} a record had withdrawn", [successor], [0])
            await successor.withdraw()

    @case(needs=("registers",))
    async def test_cancelled_reserve(self, stage: DiscoveryStage) -> None:
        """A `reserve` that is cancelled on its way takes no number, or gives it back."""
        backend = await stage.backend()
        for turns in range(12):
            await _cancel_after(turns, backend, stage)
        deadline = time.monotonic() + 5.0 * stage.patience
        while (worker := await stage.worker(backend)).number != 0:
            await worker.withdraw()
            check(
                time.monotonic() < deadline,
                did=f"after twelve cancelled calls of reserve the lowest free number stayed {worker.number}",
                wanted="it is 0, at once or a moment later",
                look="`reserve`: what was taken when CancelledError came out of an `await`",
            )
            await asyncio.sleep(0.02)


async def _cancel_after(turns: int, backend: Discovery, stage: DiscoveryStage) -> None:
    """Reserve, and cancel that after so many turns of the event loop."""
    taking: asyncio.Task[Registration] = asyncio.ensure_future(backend.reserve(stage.path(), turns + 1))
    for _ in range(turns):
        await asyncio.sleep(0)
    taking.cancel()
    await asyncio.wait([taking])
    if not taking.cancelled():
        with going_well("reserve"):
            await taking.result().withdraw()


def _check_numbers(who: str, workers: Sequence[Worker], wanted: list[int]) -> None:
    __tracebackhide__ = True
    numbers = [worker.number for worker in workers]
    check(
        numbers == wanted,
        did=f"{who} got {_shown(numbers)}",
        wanted=f"{_shown(wanted)}: the lowest free",
        look=_TAKING,
    )


def check_distinct(numbers: Sequence[int]) -> None:
    """Nonconformance if two that reserved at once got the same number."""
    __tracebackhide__ = True
    twice = sorted({number for number in numbers if numbers.count(number) > 1})
    check(
        not twice,
        did=f"workers that reserved at once got {_shown(sorted(numbers))}: {_shown(twice)} more than once",
        wanted="a number belongs to one worker",
        look=_TAKING,
        blame="numbers.none_twice",
    )


def _shown(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
