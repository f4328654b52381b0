"""Opening and closing: nothing is left over, whatever happened in between."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Generator
from contextlib import contextmanager

from reqplane.errors import CannotConnect, SettingsError
from reqplane.model import End, Prologue

from reqplane_conformance.case import case
from reqplane_conformance.response.hooks import ResponseSuite
from reqplane_conformance.response.parts import check_parts
from reqplane_conformance.response.stage import Process, ResponseStage, info_from
from reqplane_conformance.verdict import check, expected


class LifeCases(ResponseSuite, suite=True):
    """Opening and closing."""

    group = "life"

    @case(priority=4)
    async def test_nothing_left_over(self, stage: ResponseStage) -> None:
        """After aclose no task, socket, thread or timer is left, in whatever state the streams were."""
        frontend, worker = await stage.pair()
        done, stopped, killed, broken, open_still = [await stage.call(frontend, worker) for _ in range(5)]
        frontend.transport.expect("nobody calls home")
        await done.answer(b"item")
        check_parts(await done.rest(), [Prologue(), b"item", End()])
        stopped.pending.stop()
        killed.pending.kill()
        broken.home.abort()
        open_still.home.write(b"x" * 100_000)
        await asyncio.sleep(0)

    @case()
    async def test_close_twice(self, stage: ResponseStage) -> None:
        """`aclose` may be called again, also while it runs, and of a transport that did nothing."""
        frontend, worker = await stage.pair()
        await (await stage.call(frontend, worker)).answer()
        for process in (worker, frontend, await stage.process()):
            await asyncio.gather(process.transport.aclose(), process.transport.aclose())
            await process.transport.aclose()

    @case()
    async def test_call_after_close(self, stage: ResponseStage) -> None:
        """A worker that has closed can't call home any more: CannotConnect."""
        frontend, worker = await stage.pair()
        info = info_from(frontend.transport.expect("conformance").info)
        await worker.transport.aclose()
        with expected(
            CannotConnect, when="after aclose", what="call_home", look="`call_home` after `aclose`"
        ):
            await stage.soon(
                worker.transport.call_home(info, lambda _: None), "call_home done", "`call_home`"
            )

    @case(within=30.0)
    async def test_address_is_free(self, stage: ResponseStage) -> None:
        """A frontend that closed frees its address: another one listens there at once."""
        port = stage.one_port()
        worker = await stage.process()
        for _ in range(3):
            frontend = await stage.frontend(port)
            call = await stage.call(frontend, worker)
            await call.answer()
            check_parts(await call.rest(), [Prologue(), End()])
            await frontend.transport.aclose()

    @case(within=30.0)
    async def test_open_and_close_50_times(self, stage: ResponseStage) -> None:
        """Opening, answering and closing 50 times leaves nothing open."""
        before, most = stage.sockets(), 0
        for _ in range(50):
            frontend, worker = await stage.pair()
            call = await stage.call(frontend, worker)
            await call.answer(b"item")
            await call.rest()
            for process in (worker, frontend):
                await process.transport.aclose()
            most = max(most, stage.sockets() - before)
        check(
            most <= 8,
            did=f"there were up to {most} more sockets than before, after `aclose` of both sides",
            wanted="none: aclose returns when its sockets are closed",
            look="`aclose`",
            blame=stage.leftover_case,
        )

    @case(within=40.0, priority=6)
    async def test_streams_leave_nothing(self, stage: ResponseStage) -> None:
        """Thousands of streams leave no memory behind, answered ones and those closed unopened."""
        frontend, worker = await stage.pair()

        async def some(count: int) -> None:
            for _ in range(count):
                call = await stage.call(frontend, worker)
                await call.answer(b"item")
                await call.rest()
                call.pending.close()
                frontend.transport.expect("nobody calls home").close()

        async def many(count: int) -> int:
            await asyncio.gather(*(some(count) for _ in range(50)))
            await stage.soon(_turns(), "a few turns of the loop", "")
            gc.collect()
            return len(gc.get_objects())

        first = await many(4)
        growth = await many(30) - first
        check(
            growth < 1500,
            did=f"after 1500 more streams there were {growth} more objects in memory",
            wanted="none: a stream that is over is forgotten",
            look="the tables of streams and subjects: `end`, `close` and `kill` have to take theirs out",
        )

    @case()
    async def test_address_in_use(self, stage: ResponseStage) -> None:
        """An address that is taken is a SettingsError that names its variable, from `listen`."""
        port = stage.one_port()
        if not port:
            stage.does_not_apply("no variable of `loopback` is the number of its port")
        first = await stage.frontend(port)
        second = await stage.process(port)
        look = "`listen`: the errors of bind"
        with expected(SettingsError, when="where the port is taken", what="listen", look=look) as caught:
            await second.transport.listen()
        _check_names(caught.error, list(port), look)
        await self._works(stage, first)

    @case()
    async def test_wrong_values(self, stage: ResponseStage) -> None:
        """A variable that can't be read is a SettingsError that names it, from `open`."""
        for name in getattr(stage.subject, "loopback", {}):
            look = "`open`: reqplane.settings.load(YourSettings, host.env)"
            with expected(SettingsError, when=f"for {name}='?!'", what="open", look=look) as caught:
                await stage.process({name: "?!"})
            _check_names(caught.error, [name], look)

    @case()
    async def test_settings_of_its_host(self, stage: ResponseStage) -> None:
        """Settings come from Host.env, and not from the environment of the process."""
        with _environ(dict.fromkeys(getattr(stage.subject, "loopback", {}), "?!")):
            frontend = await stage.frontend()
        await self._works(stage, frontend)

    async def _works(self, stage: ResponseStage, frontend: Process) -> None:
        call = await stage.call(frontend, await stage.process())
        await call.answer()
        check_parts(await call.rest(), [Prologue(), End()])


def _check_names(error: object, names: list[str], look: str) -> None:
    assert isinstance(error, SettingsError)
    told = [variable for variable, _, _ in error.problems]
    check(set(told) & set(names), did=f"SettingsError names {told}", wanted=" or ".join(names), look=look)


@contextmanager
def _environ(values: dict[str, str]) -> Generator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


async def _turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0.005)
