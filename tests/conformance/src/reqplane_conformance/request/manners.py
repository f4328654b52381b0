"""What a transport does to its process: it is a guest there."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import socket
import stat
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import contextmanager

import pytest

from reqplane_conformance.case import case
from reqplane_conformance.leftovers import sockets
from reqplane_conformance.outside import import_path
from reqplane_conformance.request.fates import fate, fates, told
from reqplane_conformance.request.hooks import RequestSuite
from reqplane_conformance.request.opening import told_why, wrong_values
from reqplane_conformance.request.stage import RequestStage
from reqplane_conformance.request.waiting import closed
from reqplane_conformance.verdict import check, fail

_ENDED = {
    "connecting": "were cancelled while they connected",
    "cancelled": "were cancelled while they waited for their acks",
    "timed_out": "ended at their deadline",
    "closed": "of another transport of the process ended by its aclose",
}
_USED_ONCE = "connections that are used once and not closed, and tasks that go on when `send` is cancelled"


class MannersCases(RequestSuite, suite=True):
    """What a transport leaves alone."""

    group = "life"

    @case(priority=4)
    async def test_open_listens_on_nothing(self, stage: RequestStage) -> None:
        """`open` opens no address: a frontend listens nowhere."""
        before = _listening()
        frontend = await stage.frontend()
        check(
            len(_listening()) <= len(before),
            did="after open the process listened on a socket more",
            wanted="the first `listen` opens the address",
            look="`open`, which only makes it ready to send",
        )
        await frontend.transport.aclose()

    @case()
    async def test_settings_come_from_the_host(self, stage: RequestStage) -> None:
        """Settings are read from Host.env, and not from the process's own variables."""
        junk = {name: value for name, value in wrong_values(stage.subject)}
        with _environment(junk), told_why("with junk in os.environ and good values in Host.env, "):
            frontend, worker = await stage.frontend(), await stage.worker()
            await frontend.deliver(worker, when="with junk in os.environ and good values in Host.env")

    @case()
    async def test_two_at_once(self, stage: RequestStage) -> None:
        """Several transports in one process know nothing of each other: one's end is not the others'."""
        pairs = [(await stage.frontend(), await stage.worker()) for _ in range(3)]
        for frontend, worker in pairs:
            await frontend.deliver(worker)
        await pairs[0][0].transport.aclose()
        await pairs[1][1].transport.aclose()
        frontend, worker = pairs[2]
        for sender, receiver in ((frontend, worker), (pairs[1][0], worker), (frontend, pairs[0][1])):
            await sender.deliver(receiver, when="after others of the process were closed")

    @case(within=20.0)
    @pytest.mark.parametrize("how", ["connecting", "cancelled", "timed_out", "closed"])
    async def test_ends_alone(self, stage: RequestStage, how: str) -> None:
        """A send that is cancelled, is late, or whose transport closes takes no other with it."""
        worker, frontend, other = await stage.outside(), await stage.frontend(), await stage.frontend()
        if how != "connecting":
            await frontend.deliver(worker)
            await other.deliver(worker)
        sender, within = other if how == "closed" else frontend, 0.2 if how == "timed_out" else None
        async with self.clogged(worker):
            ending = [asyncio.create_task(fate(sender.send(worker, within=within))) for _ in range(4)]
            others = [asyncio.create_task(fate(frontend.send(worker))) for _ in range(4)]
            await asyncio.sleep(0 if how == "connecting" else 0.1)
            if how == "closed":
                await closed(stage, other.transport.aclose())
            elif how != "timed_out":
                for one in ending:
                    one.cancel()
            await asyncio.wait(ending, timeout=2.0 * stage.patience)
        await asyncio.wait(others)
        for one in others:
            error = None if one.cancelled() else one.result()
            check(
                not one.cancelled() and error is None,
                did=f"4 sends {_ENDED[how]}, and another one to the same worker "
                + ("raised CancelledError" if one.cancelled() else told(error)),
                wanted="the others are acknowledged: their callers have done nothing",
                look="what sends to one address share: a connection that is closed when one of them ends, or "
                "a task that connects, which is cancelled with the one that waits for it (asyncio.shield)",
            )

    @case(within=20.0)
    async def test_never_blocks_the_loop(self, stage: RequestStage) -> None:
        """Nothing blocks the event loop, whether the other side answers or not."""
        frontend, worker, outside = await stage.frontend(), await stage.worker(), await stage.outside()
        most = 0.3 * stage.patience
        await frontend.deliver(outside)
        async with _longest_gap() as gap:
            body = bytes(frontend.fitting(200_000))
            await fates(frontend.send(worker, stage.frame(body)) for _ in range(20))
            async with self.clogged(outside):
                await fates(frontend.send(outside, within=1.0) for _ in range(4))
            await self.vanish(outside)
            await fate(frontend.send(outside, within=1.0))
        check(
            gap() < most,
            did=f"for {gap():.2f} s nothing else could run on the event loop",
            wanted=f"less than {most:g} s, whatever the other side does",
            look="calls that block: a synchronous client, time.sleep, a lock, name resolution",
        )

    @case(priority=4, within=20.0)
    @pytest.mark.parametrize("how", ["delivered", "refused", "cancelled"])
    async def test_holds_no_more(self, stage: RequestStage, how: str) -> None:
        """What it holds does not grow with the number of frames that were delivered, refused or cancelled."""
        frontend, worker = await stage.frontend(), await stage.outside()
        await frontend.deliver(worker)
        if how == "refused":
            await worker.do("refuse", code="busy")
        before = 0, 0
        async with self.clogged(worker) if how == "cancelled" else contextlib.nullcontext():
            for number in range(70):
                if number == 10:
                    before = len(sockets()), len(asyncio.all_tasks())
                sending = asyncio.ensure_future(fate(frontend.send(worker, within=None)))
                await asyncio.wait({sending}, timeout=0.005 if how == "cancelled" else None)
                sending.cancel()
                await asyncio.wait({sending}, timeout=1.0 * stage.patience)
            await _held_no_more(stage, before, f"60 more sends, which were {how}")

    @case(within=60.0)
    async def test_forgets_frontends_that_left(self, stage: RequestStage) -> None:
        """What a worker holds does not grow with the number of frontends that came and left."""
        worker = await stage.worker()
        before = 0, 0
        for number in range(22):
            if number == 5:
                before = len(sockets()), len(asyncio.all_tasks())
            frontend = await stage.frontend()
            await frontend.deliver(worker)
            await frontend.transport.aclose()
        look = "the listener's side of a connection: it closes it too, when its frontend is gone"
        await _held_no_more(stage, before, "17 more frontends, which came and left,", look)

    @case()
    async def test_prints_nothing(self, stage: RequestStage) -> None:
        """What it has to say goes to Host.log, and nothing to standard output or standard error."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _logs_go_somewhere():
            frontend, worker = await stage.frontend(), await stage.worker()
            await frontend.deliver(worker)
            worker.refuse = RuntimeError("a defect of the core")
            await fate(frontend.send(worker))
            await worker.listener.close()
            await fate(frontend.send(worker, within=0.5))
            await frontend.transport.aclose()
        said = out.getvalue() + err.getvalue()
        check(
            not said,
            did=f"it printed {said[:200]!r}",
            wanted="nothing: what it has to say goes to `host.log`",
            look="print, warnings, a library's own output, and exceptions that nobody takes",
        )

    @case()
    async def test_import_does_nothing(self, stage: RequestStage) -> None:
        """Importing its module starts no thread, opens no socket and changes no signal handler."""
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "reqplane_conformance.importing", *import_path(stage.subject)),
            env=env,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        found: dict[str, str] = json.loads(said.splitlines()[-1]) if said.strip() else {"failed": "see above"}
        check(
            not found,
            did="importing its module had effects: "
            + ", ".join(f"{what} {how}" for what, how in found.items()),
            wanted="nothing happens before `open`",
            look="what stands at the top level of its modules",
        )


@contextmanager
def _logs_go_somewhere() -> Generator[None]:
    """Without any handler, logging itself prints warnings."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Generator[None]:
    """This process's own variables, for a while."""
    before = dict(os.environ)
    os.environ.update({name: value for name, value in variables.items() if "\0" not in value})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.asynccontextmanager
async def _longest_gap() -> AsyncGenerator[Callable[[], float]]:
    """How long the loop did not get round to a task that only ticks."""
    loop = asyncio.get_running_loop()
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            before = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - before - 0.01)

    ticking = asyncio.create_task(tick())
    try:
        yield lambda: longest
    finally:
        ticking.cancel()
        await asyncio.wait({ticking})


async def _held_no_more(
    stage: RequestStage, before: tuple[int, int], after: str, look: str = _USED_ONCE
) -> None:
    """Nonconformance unless there soon are about as many sockets and tasks as before."""
    deadline = time.monotonic() + 1.0 * stage.patience
    held = before
    while time.monotonic() < deadline:
        held = len(sockets()), len(asyncio.all_tasks())
        if held[0] <= before[0] + 10 and held[1] <= before[1] + 10:
            return
        await asyncio.sleep(0.02)
    fail(
        f"after {after} the process had {held[0]} sockets and {held[1]} tasks, before {before[0]} and "
        f"{before[1]}",
        "about as many as before: what belongs to one send, or to one peer, is let go with it",
        look,
    )


def _listening() -> list[int]:
    """The descriptors of this process that are listening sockets."""
    found: list[int] = []
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as probe:
                    if probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        found.append(int(name))
    return found
