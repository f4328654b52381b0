"""Two transports: what a worker writes is what its frontend receives."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from reqplane.errors import FrameTooLarge
from reqplane.model import Annotated, Broken, End, Load, Prologue
from reqplane.wire import shared
from reqplane_tcp_stream.arrival import Arrival
from reqplane_tcp_stream.transport import TcpStreamTransport

from .conftest import Call, OpenPair, OpenTransport, Pair, host_of, until
from .scripted import RawFrontend


async def test_a_whole_answer_arrives_in_order(pair: Pair):
    call = await pair.call()
    call.home.prologue(None)
    for index in range(5):
        assert call.home.write(b"%d" % index)
    call.home.write(b'{"event":"x"}', annotated=True)
    call.home.write(b"last")
    call.home.end()
    assert await call.rest() == [
        Prologue(),
        b"0",
        b"1",
        b"2",
        b"3",
        b"4",
        Annotated(b'{"event":"x"}'),
        b"last",
        End(),
    ]
    assert call.told == []
    assert not call.home.enveloped
    assert not call.pending.enveloped


async def test_opened_is_done_once_the_worker_has_called_home(pair: Pair):
    pending = pair.frontend.expect("r")
    assert not pending.opened.done()
    await pair.worker.call_home(pending.info, lambda control: None)
    await asyncio.wait_for(pending.opened, 5)


async def test_an_end_with_a_load_report_hands_it_to_the_host(pair: Pair):
    call = await pair.call()
    call.home.prologue(None)
    call.home.end(shared.load_body(Load(3, 1, 8)))
    parts = await call.rest()
    assert parts == [Prologue(), End(shared.load_body(Load(3, 1, 8)))]
    assert host_of(pair.frontend).reports == [(host_of(pair.worker).incarnation, Load(3, 1, 8))]


async def test_a_report_reaches_every_frontend(make_pair: OpenPair):
    one, other = await make_pair(), await make_pair()
    here = Pair(one.frontend, one.worker)
    there = Pair(other.frontend, one.worker)
    await here.call()
    await there.call()
    one.worker.report(Load(1, 2, None))
    for frontend in (one.frontend, other.frontend):
        host = host_of(frontend)
        await until(lambda host=host: host.reports)
        assert host.reports == [(host_of(one.worker).incarnation, Load(1, 2, None))]


async def test_a_frontend_that_comes_later_hears_the_last_report_too(make_pair: OpenPair):
    one, other = await make_pair(), await make_pair()
    await one.call()
    one.worker.report(Load(4, 0, 4))
    one.worker.report(Load(5, 2, 8))
    await Pair(other.frontend, one.worker).call()
    host = host_of(other.frontend)
    await until(lambda: host.reports)
    assert host.reports == [(host_of(one.worker).incarnation, Load(5, 2, 8))]


async def test_after_a_prologue_with_an_error_nothing_follows(pair: Pair):
    call = await pair.call()
    call.home.prologue("no \udcff such model")
    assert call.home.write(b"ignored")
    call.home.end()
    call.home.abort()
    assert await call.rest() == [Prologue("no ? such model")]
    assert call.told == []


async def test_an_error_without_a_text_is_an_error_still(pair: Pair):
    call = await pair.call()
    call.home.prologue("")
    (prologue,) = await call.rest()
    assert isinstance(prologue, Prologue)
    assert prologue.error


async def test_an_aborted_answer_is_broken(pair: Pair):
    call = await pair.call()
    call.home.prologue(None)
    call.home.write(b"one")
    call.home.abort()
    call.home.abort()
    call.home.end()
    *came, last = await call.rest()
    assert came == [Prologue(), b"one"]
    assert isinstance(last, Broken)


async def test_nothing_waits_for_ever_after_the_last_part(pair: Pair):
    call = await pair.call()
    call.home.end()
    assert await call.rest() == [End()]
    (part,) = await asyncio.wait_for(call.pending.receive(), 5)
    assert isinstance(part, Broken)


@pytest.mark.parametrize("size", [0, 1, 24, 65_535, 65_536, 262_145, 4 << 20])
async def test_items_of_any_size_come_through(pair: Pair, size: int):
    item = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    call = await pair.call()

    async def write() -> None:
        call.home.prologue(None)
        for body in (b"before", item, b"after"):
            if not call.home.write(body):
                await call.home.ready()
        call.home.end()

    _, parts = await asyncio.gather(write(), call.rest())
    assert parts[0] == Prologue()
    assert parts[1:] == [b"before", item, b"after", End()]
    assert len(item) == size


async def test_large_and_small_items_of_many_streams_keep_their_order(pair: Pair):
    async def one(number: int) -> None:
        call = await pair.call()
        items = [bytes([number]) * (1 + (number * 7919 + index * 104_729) % 100_000) for index in range(20)]

        async def write() -> None:
            call.home.prologue(None)
            for item in items:
                if not call.home.write(item):
                    await call.home.ready()
            call.home.end()

        _, parts = await asyncio.gather(write(), call.rest())
        assert parts == [Prologue(), *items, End()]

    await asyncio.gather(*(one(number) for number in range(16)))
    assert pair.connections == 1


@pytest.mark.parametrize("limit", [4096, 100_000])
async def test_one_item_more_than_the_largest_frame_harms_only_its_writer(make_pair: OpenPair, limit: int):
    pair = await make_pair(max_frame_bytes=limit)
    call, other = await pair.call(), await pair.call()
    with pytest.raises(FrameTooLarge, match=rf"{limit + 1}.*{limit}.*DYN_MAX_FRAME_BYTES"):
        call.home.write(b"x" * (limit + 1))
    call.home.write(b"x" * limit)
    call.home.end()
    other.home.end()
    assert await call.rest() == [b"x" * limit, End()]
    assert await other.rest() == [End()]


async def test_the_smaller_limit_of_both_sides_counts(transport: OpenTransport):
    small, large = await transport(max_frame_bytes=5000), await transport(max_frame_bytes=50_000)
    for frontend, worker in ((small, large), (large, small)):
        await frontend.listen()
        pair = Pair(frontend, worker)
        call, other = await pair.call(), await pair.call()
        with pytest.raises(FrameTooLarge, match="5001 bytes, at most 5000 are allowed"):
            call.home.write(b"x" * 5001)
        call.home.write(b"x" * 5000)
        call.home.end()
        other.home.end()
        assert await call.rest() == [b"x" * 5000, End()]
        assert await other.rest() == [End()]


async def test_a_frontend_that_tells_no_limit(transport: OpenTransport):
    worker = await transport(max_frame_bytes=5000)
    async with RawFrontend.listening() as frontend:
        calling = asyncio.create_task(worker.call_home(frontend.info(), lambda control: None))
        await frontend.welcome()
        home = await calling
        with pytest.raises(FrameTooLarge):
            home.write(b"x" * 5001)
        home.write(b"x" * 5000)


async def test_the_text_of_an_error_has_bounds(make_pair: OpenPair):
    call = await (await make_pair(max_frame_bytes=8192)).call()
    call.home.prologue("ä" * 100_000)
    (prologue,) = await call.rest()
    assert prologue == Prologue("ä" * 1000)


@pytest.fixture
def accepted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the connections that frontends accept."""
    count, accept = [0], TcpStreamTransport._accept

    def counting(self: TcpStreamTransport) -> Arrival:
        count[0] += 1
        return accept(self)

    monkeypatch.setattr(TcpStreamTransport, "_accept", counting)
    return count


async def test_64_streams_make_one_connection(accepted: list[int], pair: Pair):
    async def one(number: int) -> None:
        call = await pair.call()
        call.home.prologue(None)
        for index in range(10):
            call.home.write(b"%d.%d" % (number, index))
            await asyncio.sleep(0)
        call.home.end()
        assert await call.rest() == [Prologue(), *(b"%d.%d" % (number, i) for i in range(10)), End()]

    await asyncio.gather(*(one(number) for number in range(64)))
    assert accepted == [1]


async def test_first_calls_share_one_connect(accepted: list[int], pair: Pair):
    """One that is cancelled does not spoil it for the others."""
    pendings = [pair.frontend.expect(str(index)) for index in range(8)]
    calls = [asyncio.create_task(pair.worker.call_home(one.info, lambda _: None)) for one in pendings]
    await asyncio.sleep(0)
    calls[0].cancel()
    homes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(homes[0], asyncio.CancelledError)
    for pending, home in list(zip(pendings, homes, strict=True))[1:]:
        assert not isinstance(home, BaseException)
        home.end()
        assert await Call(pending, home, []).rest() == [End()]
    assert accepted == [1]


async def test_subjects_are_random_uuids_of_version_4(pair: Pair):
    subjects = [uuid.UUID(pair.frontend.expect("r").info.subject) for _ in range(1000)]
    assert len(set(subjects)) == 1000
    assert {subject.version for subject in subjects} == {4}
    assert {subject.variant for subject in subjects} == {uuid.RFC_4122}


async def test_one_process_may_call_itself(pair: Pair):
    itself = Pair(pair.frontend, pair.frontend)
    call = await itself.call()
    call.home.prologue(None)
    call.home.write(b"me")
    call.home.end()
    assert await call.rest() == [Prologue(), b"me", End()]
    assert call.told == []
