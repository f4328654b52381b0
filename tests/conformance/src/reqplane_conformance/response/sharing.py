"""Many answers at once: each has its own stream, and each stream its own processes."""

from __future__ import annotations

import asyncio

from reqplane.model import End, Load, Prologue
from reqplane.wire.shared import load_body

from reqplane_conformance.case import case
from reqplane_conformance.response.hooks import ResponseSuite
from reqplane_conformance.response.parts import check_parts, shown
from reqplane_conformance.response.stage import Call, ResponseStage
from reqplane_conformance.verdict import check


class SharingCases(ResponseSuite, suite=True):
    """Many answers at once."""

    group = "sharing"

    @case(within=30.0)
    async def test_many_streams_at_once(self, stage: ResponseStage) -> None:
        """64 answers between two processes run side by side, each with its own items."""
        frontend, worker = await stage.pair()

        async def one(number: int) -> None:
            call = await stage.call(frontend, worker)
            items = [
                bytes([number]) * (1 + (number * 7919 + index * 104_729) % 20_000) for index in range(12)
            ]
            writing = asyncio.create_task(call.answer(*items))
            wanted = [Prologue(), *items, End()]
            check_parts(await call.rest(within=25.0), wanted, "which stream a part belongs to")
            await writing

        async with asyncio.TaskGroup() as group:
            for number in range(64):
                group.create_task(one(number))

    @case()
    async def test_several_processes(self, stage: ResponseStage) -> None:
        """Two frontends and two workers: each answer goes to the process that asked."""
        frontends = [await stage.frontend() for _ in range(2)]
        workers = [await stage.process() for _ in range(2)]
        calls = [(await stage.call(one, other), one, other) for one in frontends for other in workers]
        for number, (call, _, _) in enumerate(calls):
            await call.answer(b"%d" % number)
        for number, (call, _, _) in enumerate(calls):
            check_parts(await call.rest(), [Prologue(), b"%d" % number, End()])

    @case()
    async def test_within_one_process(self, stage: ResponseStage) -> None:
        """A process may answer itself."""
        both = await stage.frontend()
        call = await stage.call(both, both)
        await call.answer(b"me")
        check_parts(await call.rest(), [Prologue(), b"me", End()])

    @case(needs=("shared_connection",))
    async def test_one_connection(self, stage: ResponseStage) -> None:
        """All streams between two processes go over one connection, those that begin together too."""
        frontend, worker = await stage.pair()

        async def some(count: int) -> list[Call]:
            return await asyncio.gather(*(stage.call(frontend, worker) for _ in range(count)))

        before = stage.sockets()
        calls = await some(8)
        first = stage.sockets() - before
        calls += await some(56)
        more = stage.sockets() - before - first
        check(
            first <= 2 and more == 0,
            did=f"8 streams opened {first} sockets, counting both ends, and 56 more opened {more}",
            wanted="2, the two ends of one connection, and no more",
            look="`call_home`: callers that come while the connection is being made have to wait for it",
        )
        for call in calls:
            await call.answer()
            await call.rest()

    @case(needs=("reports",))
    async def test_report_with_the_end(self, stage: ResponseStage) -> None:
        """A load report that ends an answer arrives with it, and at Host.reported under the worker's name."""
        frontend, worker = await stage.pair()
        call = await stage.call(frontend, worker)
        if call.home.enveloped:
            stage.does_not_apply("an enveloped stream has no room for a report")
        body = load_body(Load(3, 1, 8))
        call.home.prologue(None)
        call.home.end(body)
        parts = await call.rest()
        last = parts[-1]
        check(
            isinstance(last, End) and bytes(last.report) == body,
            did=f"received {shown(parts)}",
            wanted=shown([Prologue(), End(body)]),
            look="`end(body)`, and the End that the frontend makes of it",
        )
        wanted = [(worker.host.incarnation, Load(3, 1, 8))]
        await stage.until(lambda: frontend.host.reports, "the report at Host.reported")
        check(
            frontend.host.reports == wanted,
            did=f"Host.reported was called with {frontend.host.reports}",
            wanted=f"{wanted}: the incarnation of the worker's host, and its load",
            look="where a connection keeps who its worker is",
        )

    @case(needs=("reports",))
    async def test_reports(self, stage: ResponseStage) -> None:
        """A load report reaches every frontend that the worker is connected to."""
        frontends = [await stage.frontend() for _ in range(2)]
        worker = await stage.process()
        calls = [await stage.call(frontend, worker) for frontend in frontends]
        load = Load(5, 2, None, "a.b.c")
        worker.transport.report(load)
        for frontend in frontends:
            host = frontend.host
            await stage.until(lambda host=host: host.reports, "the report at Host.reported")
            wanted = [(worker.host.incarnation, load)]
            check(
                host.reports == wanted,
                did=f"Host.reported was called with {host.reports}",
                wanted=str(wanted),
                look="`report`, and what a frontend does about one",
            )
        for call in calls:
            await call.answer()
            await call.rest()
