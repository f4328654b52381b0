"""The main things once more on each event loop that users run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import uvloop
from reqplane.model import Broken, Control, End, Part, Prologue
from reqplane.wire import shared
from reqplane_tcp_stream.frontend import FrontendConnection

from .conftest import Call, opened, paired, until
from .scripted import RawWorker

Run = Callable[[Any], Any]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param


def test_answers_of_many_streams(run: Run):
    async def main() -> None:
        async with paired(stream_window_bytes=50_000) as pair:

            async def one(number: int) -> None:
                items = [bytes([number]) * (1 + (number * 7919 + i * 104_729) % 90_000) for i in range(20)]
                call = await pair.call()

                async def write() -> None:
                    call.home.prologue(None)
                    for item in items:
                        if not call.home.write(item):
                            await call.home.ready()
                    call.home.end()

                _, parts = await asyncio.gather(write(), call.rest())
                assert parts == [Prologue(), *items, End()]

            await asyncio.gather(*(one(number) for number in range(32)))
            assert pair.connections == 1

    run(main())


def test_answers_on_connections_of_their_own(run: Run):
    async def main() -> None:
        async with paired(stream_window_bytes=50_000) as pair:
            pair.frontend._subjects.offer = None

            async def one(number: int) -> None:
                items = [bytes([number]) * (1 + (number * 7919 + i * 104_729) % 90_000) for i in range(20)]
                call = await pair.call()

                async def write() -> None:
                    call.home.prologue(None)
                    for item in items:
                        if not call.home.write(item):
                            await call.home.ready()
                    call.home.end(b"the end marker")

                async def read() -> list[Part]:
                    while not call.pending.full:  # type: ignore[attr-defined]
                        await asyncio.sleep(0.001)  # then the socket is paused
                    return await call.rest()

                _, parts = await asyncio.gather(write(), read())
                assert parts == [Prologue(), *items, b"the end marker", End()]
                assert call.home.enveloped
                assert call.pending.enveloped

            await asyncio.gather(*(one(number) for number in range(32)))
            await until(lambda: not pair.connections)
            assert not pair.worker._homes._singles

    run(main())


@pytest.mark.parametrize("single", [False, True])
def test_stop_kill_and_loss(run: Run, single: bool):
    async def main() -> None:
        async with paired() as pair:
            if single:
                pair.frontend._subjects.offer = None
            calls = [await pair.call(str(index)) for index in range(3)]
            for call in calls:
                await call.pending.opened
            calls[0].pending.stop()
            calls[1].pending.kill()
            await until(lambda: calls[0].told and calls[1].told)
            for connection in list(pair.frontend._connections):
                connection.cut()
            for call in calls:
                assert isinstance((await call.rest())[-1], Broken)
            await until(lambda: calls[2].told and Control.GONE in calls[0].told)
            assert [call.told for call in calls] == [
                [Control.STOP, Control.GONE],
                [Control.KILL],
                [Control.GONE],
            ]

    run(main())


def test_a_leaving_worker_finishes_what_it_wrote(run: Run):
    async def main() -> None:
        async with paired(stream_window_bytes=1 << 30) as pair:
            call = await pair.call()
            reading = asyncio.create_task(call.rest())
            for index in range(50):
                call.home.write(bytes([index]) * 100_000)
            call.home.end()
            await pair.worker.aclose()
            assert await reading == [bytes([index]) * 100_000 for index in range(50)] + [End()]

    run(main())


def test_a_loop_that_stood_still(run: Run):
    async def main() -> None:
        async with paired(heartbeat=0.05, stream_dead_after=0.2) as pair:
            call = await pair.call()
            await call.pending.opened
            for _ in range(3):
                time.sleep(0.4)
                await asyncio.sleep(0.03)
            call.home.end()
            assert await call.rest() == [End()]

    run(main())


def test_an_answer_that_came_while_our_loop_stood_still_is_read_before_the_peer_is_given_up(run: Run):
    """Some loops run timers before they read, and then the check comes first."""

    async def main() -> None:
        async with opened(heartbeat=0.25, stream_dead_after=0.8) as frontend:
            await frontend.listen()
            async with RawWorker.welcomed(frontend) as peer:
                (connection,) = frontend._connections
                assert isinstance(connection, FrontendConnection)
                await until(lambda: connection._silent >= 0.7)  # the next check would be the last
                peer.send(shared.PONG, 0)
                time.sleep(0.7)
                assert connection._pulse is not None
                connection._pulse.cancel()
                connection._check()
                await asyncio.sleep(0.1)
                assert not connection.lost
                await peer.closed()  # and now it is silent for good
                assert connection.lost

    run(main())


def test_nothing_is_left_open(run: Run):
    async def once() -> Call:
        async with paired() as pair:
            call = await pair.call()
            call.home.write(b"x" * 100_000)
            await call.pending.receive()
            return call

    async def main() -> None:
        await once()
        await asyncio.sleep(0.01)
        before = psutil.Process().num_fds()
        for _ in range(10):
            await once()
        await asyncio.sleep(0.05)
        assert psutil.Process().num_fds() == before
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())
