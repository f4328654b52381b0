"""What every backend does, told the same way for each."""

from __future__ import annotations

import asyncio

import pytest
from core.discovery.world import Opener, Seen, Watcher, eventually, our_threads, record
from reqplane.errors import DiscoveryUnavailable, LeaseLost, WireError
from reqplane.model import EndpointId

GENERATE = EndpointId("default", "backend", "generate")
EMBED = EndpointId("default", "backend", "embed")


async def test_the_first_batch_is_told_even_when_there_is_nothing(
    backend: str, opened: Opener, watching: Watcher
) -> None:
    seen = await watching(await opened(backend), GENERATE)
    assert seen.first == []


async def test_a_worker_comes_and_goes(backend: str, opened: Opener, watching: Watcher) -> None:
    discovery = await opened(backend)
    seen = await watching(discovery, GENERATE)
    registration = await discovery.reserve(GENERATE, 11)
    assert registration.instance_id == 0
    await registration.publish(record(GENERATE, 0, 11))
    await seen.until(lambda seen: seen.incarnations == {11})
    assert seen.now[GENERATE, 0].transport == {"tcp": "a:1"}
    await registration.withdraw()
    await seen.until(lambda seen: not seen.now)
    assert [change.up for change in seen.changes] == [True, False]


async def test_runtimes_see_each_other(backend: str, opened: Opener, watching: Watcher) -> None:
    worker, frontend = await opened(backend), await opened(backend)
    seen = await watching(frontend, None)
    registration = await worker.reserve(GENERATE, 11)
    await registration.publish(record(GENERATE, 0, 11))
    await seen.until(lambda seen: seen.incarnations == {11})
    await worker.aclose()
    await seen.until(lambda seen: not seen.now)


async def test_who_watches_later_gets_the_listing_first(
    backend: str, opened: Opener, watching: Watcher
) -> None:
    discovery = await opened(backend)
    for number in range(3):
        registration = await discovery.reserve(GENERATE, 100 + number)
        await registration.publish(record(GENERATE, number, 100 + number))
    if backend == "etcd":  # it may take a moment until its watch has told what was written
        await (await watching(discovery, GENERATE)).until(lambda seen: len(seen.now) == 3)
    for _ in range(2):
        seen = await watching(discovery, GENERATE)
        assert seen.first is not None
        assert sorted(change.instance.incarnation for change in seen.first) == [100, 101, 102]
        assert all(change.up for change in seen.first)


async def test_a_watch_is_for_one_endpoint_or_all(backend: str, opened: Opener, watching: Watcher) -> None:
    discovery = await opened(backend)
    one, everything = await watching(discovery, GENERATE), await watching(discovery, None)
    for endpoint in (EMBED, GENERATE):
        registration = await discovery.reserve(endpoint, 5)
        await registration.publish(record(endpoint, 0, 5))
    await everything.until(lambda seen: set(seen.now) == {(EMBED, 0), (GENERATE, 0)})
    await one.until(lambda seen: set(seen.now) == {(GENERATE, 0)})
    assert [change.instance.endpoint for change in one.changes] == [GENERATE]


async def test_nobody_sees_a_number_before_its_record(
    backend: str, opened: Opener, watching: Watcher
) -> None:
    discovery = await opened(backend)
    seen = await watching(discovery, None)
    await discovery.reserve(GENERATE, 1)
    registration = await discovery.reserve(EMBED, 2)
    await registration.publish(record(EMBED, 0, 2))
    await seen.until(lambda seen: seen.now)
    assert [change.instance.endpoint for change in seen.changes] == [EMBED]


async def test_numbers_are_the_lowest_free_of_each_endpoint(backend: str, opened: Opener) -> None:
    discovery = await opened(backend)
    first = [await discovery.reserve(GENERATE, n) for n in range(4)]
    assert [registration.instance_id for registration in first] == [0, 1, 2, 3]
    assert (await discovery.reserve(EMBED, 9)).instance_id == 0
    await first[1].withdraw()
    assert (await discovery.reserve(GENERATE, 9)).instance_id == 1
    assert (await discovery.reserve(GENERATE, 9)).instance_id == 4


async def test_runtimes_share_the_numbers(backend: str, opened: Opener) -> None:
    runtimes = [await opened(backend) for _ in range(3)]
    registrations = await asyncio.gather(
        *(runtime.reserve(GENERATE, n) for n in range(4) for runtime in runtimes)
    )
    numbers = sorted(registration.instance_id for registration in registrations)
    if backend == "etcd":  # those who meet another there try elsewhere, among the lowest
        assert len(set(numbers)) == 12
        assert numbers[0] == 0
    else:
        assert numbers == list(range(12))


async def test_a_record_published_again_is_another_up(
    backend: str, opened: Opener, watching: Watcher
) -> None:
    discovery = await opened(backend)
    seen = await watching(discovery, GENERATE)
    registration = await discovery.reserve(GENERATE, 11)
    for address in ("a:1", "b:2"):
        await registration.publish(record(GENERATE, 0, 11, address))
        await seen.until(lambda seen, at=address: [i.transport for i in seen.now.values()] == [{"tcp": at}])
    assert [change.up for change in seen.changes] == [True, True]


async def test_a_number_used_again_is_another_worker(backend: str, opened: Opener, watching: Watcher) -> None:
    discovery, frontend = await opened(backend), await opened(backend)
    seen = await watching(frontend, GENERATE)
    for incarnation in (11, 22):
        registration = await discovery.reserve(GENERATE, incarnation)
        await registration.publish(record(GENERATE, 0, incarnation))
        await seen.until(lambda seen, it=incarnation: seen.incarnations == {it})
        if incarnation == 11:
            await registration.withdraw()
    assert [(change.up, change.instance.incarnation) for change in seen.changes] == [
        (True, 11),
        (False, 11),
        (True, 22),
    ]


async def test_withdraw_is_idempotent(backend: str, opened: Opener, watching: Watcher) -> None:
    discovery = await opened(backend)
    seen = await watching(discovery, GENERATE)
    former = await discovery.reserve(GENERATE, 11)
    await former.publish(record(GENERATE, 0, 11))
    await former.withdraw()
    successor = await discovery.reserve(GENERATE, 22)
    await successor.publish(record(GENERATE, 0, 22))
    await former.withdraw()
    await seen.until(lambda seen: seen.incarnations == {22})
    assert (await discovery.reserve(GENERATE, 33)).instance_id == 1
    await discovery.aclose()
    await successor.withdraw()
    assert not former.lost.done()


async def test_what_was_withdrawn_can_not_be_published(backend: str, opened: Opener) -> None:
    registration = await (await opened(backend)).reserve(GENERATE, 11)
    await registration.withdraw()
    with pytest.raises(LeaseLost):
        await registration.publish(record(GENERATE, 0, 11))


async def test_renewing_keeps_the_number_if_it_is_free(
    backend: str, opened: Opener, watching: Watcher
) -> None:
    discovery = await opened(backend)
    seen = await watching(discovery, GENERATE)
    lower = await discovery.reserve(GENERATE, 1)
    registration = await discovery.reserve(GENERATE, 11)
    await lower.withdraw()
    former = registration.lost
    await registration.renew()
    assert registration.instance_id == 1
    assert registration.lost is not former
    await registration.publish(record(GENERATE, 1, 11))
    await seen.until(lambda seen: set(seen.now) == {(GENERATE, 1)})


async def test_a_record_that_nobody_could_read_is_refused(backend: str, opened: Opener) -> None:
    registration = await (await opened(backend)).reserve(GENERATE, 11)
    with pytest.raises(WireError):
        await registration.publish({"no": "transport"})
    with pytest.raises(WireError):
        await registration.publish(record(EMBED, 0, 11))
    with pytest.raises(WireError):
        await registration.publish({"transport": {"tcp": object()}})


async def test_a_closed_watch_is_forgotten(backend: str, opened: Opener) -> None:
    discovery = await opened(backend)
    seen = Seen(discovery.watch(None))
    await seen.listed()
    await seen.close()
    assert discovery._watches == set()  # type: ignore[attr-defined]

    async def follow() -> None:
        async for _ in discovery.watch(None):
            pass

    task = asyncio.create_task(follow())
    await eventually(lambda: discovery._watches)  # type: ignore[attr-defined]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: not discovery._watches)  # type: ignore[attr-defined]


async def test_closing_ends_everything_and_is_idempotent(
    backend: str, opened: Opener, watching: Watcher
) -> None:
    discovery, frontend = await opened(backend), await opened(backend)
    seen = await watching(frontend, None)

    async def follow() -> None:
        async for _ in discovery.watch(None):
            pass

    following = asyncio.create_task(follow())
    registrations = [await discovery.reserve(GENERATE, n) for n in range(3)]
    for registration in registrations:
        await registration.publish(record(GENERATE, registration.instance_id, 7))
    await seen.until(lambda seen: len(seen.now) == 3)
    await asyncio.gather(discovery.aclose(), discovery.aclose())
    await discovery.aclose()
    await asyncio.wait_for(following, 10)
    await seen.until(lambda seen: not seen.now)
    with pytest.raises(DiscoveryUnavailable):
        await discovery.reserve(GENERATE, 1)
    assert [batch async for batch in discovery.watch(None)] == []


async def test_opening_and_closing_many_times_leaves_nothing(backend: str, opened: Opener) -> None:
    for _ in range(20):
        discovery = await opened(backend)
        assert (await discovery.reserve(GENERATE, 1)).instance_id == 0
        async for batch in discovery.watch(None):
            assert batch == []
            break
        await discovery.aclose()
    assert our_threads() == []
