"""What a transport is made of: its settings, its address, and what it does to its process."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from reqplane.errors import SettingsError

from reqplane_conformance.case import case
from reqplane_conformance.outside import import_path
from reqplane_conformance.request.fates import fate, fates
from reqplane_conformance.request.hooks import RequestSuite
from reqplane_conformance.request.places import reached
from reqplane_conformance.request.stage import RequestStage
from reqplane_conformance.verdict import check, expected

_JUNK = ("none of this!", "-1", "\x01", "")
"""Values that most variables can't have."""
_NO_PORT = "its `loopback` has no variable whose name ends with PORT"


class OpeningCases(RequestSuite, suite=True):
    """What a transport does when it is opened, and what it does to its process."""

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
    async def test_wrong_setting(self, stage: RequestStage) -> None:
        """A value that can't be used is a SettingsError that names its variable."""
        for name, value in wrong_values(stage.subject):
            with expected(
                SettingsError,
                when=f"when {name} is {value!r}",
                what="open and listen",
                look="`reqplane.settings.load(YourSettings, host.env)`, in `open`",
            ) as caught:
                await stage.worker(env={name: value})
            _check_names(caught.error, [name], value)

    @case()
    async def test_port_in_use(self, stage: RequestStage) -> None:
        """A port that somebody else has is a SettingsError that names its variable."""
        env = stage.one_port()
        if not env:
            stage.does_not_apply(_NO_PORT)
        await stage.worker(env=env)
        look = "`listen`: an OSError there (`reqplane.sockets.listening_socket` makes a SettingsError of it)"
        with expected(SettingsError, when="when somebody listens there", what="listen", look=look) as caught:
            await stage.worker(env=env)
        _check_names(caught.error, list(env), ", ".join(env.values()))

    @case()
    async def test_settings_come_from_the_host(self, stage: RequestStage) -> None:
        """Settings are read from Host.env, and not from the process's own variables."""
        junk = {name: value for name, value in wrong_values(stage.subject)}
        with _environment(junk), _told_why("with junk in os.environ and good values in Host.env, "):
            frontend, worker = await stage.frontend(), await stage.worker()
            await frontend.send(worker)

    @case()
    async def test_address_is_free_after_close(self, stage: RequestStage) -> None:
        """When the last listener is closed, its address is free at once, also for another process."""
        env = stage.one_port()
        if not env:
            stage.does_not_apply(_NO_PORT)
        frontend = await stage.frontend()
        for _ in range(3):
            first = await stage.worker(env=env)
            second = await stage.worker("conformance.backend.two", beside=first)
            await frontend.send(first)
            await frontend.send(second)
            place = await reached(first.record)
            await asyncio.gather(first.listener.close(), second.listener.close())
            check(
                place is None or not await place.is_open(),
                did="after the last listener had been closed, somebody still listened at its address",
                wanted="close frees the address",
                look="`Listener.close` of the last one",
            )
        with _told_why("where its last listener had just been closed, "):
            await (await stage.frontend()).send(await stage.outside(**env))

    @case()
    async def test_cancelled_listen(self, stage: RequestStage) -> None:
        """A `listen` that is cancelled leaves nothing behind, and its address is free."""
        env = stage.one_port()
        for turns in range(12):
            listening = asyncio.create_task(stage.worker(env=env))
            for _ in range(turns):
                await asyncio.sleep(0)
            listening.cancel()
            await asyncio.wait({listening}, timeout=3.0 * stage.patience)
            check(
                listening.done(),
                did="a listen that was cancelled still waited 3 s later",
                wanted="it ends at once",
                look="an `except` that catches CancelledError, or a `finally` that waits",
            )
            if not listening.cancelled():
                listener = listening.result().listener
                await listener.close()
        with _told_why("after a listen there had been cancelled, "):
            await (await stage.frontend()).send(await stage.worker(env=env))

    @case(needs=("shared_address",))
    async def test_shared_address(self, stage: RequestStage) -> None:
        """`address` is the same for all workers that have one address, and another one for others."""
        frontend, worker, other = await stage.frontend(), await stage.worker(), await stage.worker()
        beside = dataclasses.replace(
            worker.instance, instance_id=7, incarnation=7, transport=worker.listener.record(7)
        )
        targets = [frontend.target(worker), frontend.transport.target(beside), frontend.target(other)]
        found = [frontend.transport.address(target) for target in targets]
        check(
            isinstance(found[0], str) and found[0] == found[1],
            did=f"two workers behind one address have address() = {found[0]!r} and {found[1]!r}",
            wanted="the same text for both: the core counts by it how many are behind one balancer",
            look="`address`: host and port alone, without what tells one worker from another",
        )
        check(
            found[0] != found[2],
            did=f"two workers at different addresses have the same address(), {found[0]!r}",
            wanted="two texts",
            look="`address`",
        )

    @case()
    async def test_two_at_once(self, stage: RequestStage) -> None:
        """Several transports in one process know nothing of each other: one's end is not the others'."""
        pairs = [(await stage.frontend(), await stage.worker()) for _ in range(3)]
        for frontend, worker in pairs:
            await frontend.send(worker)
        await pairs[0][0].transport.aclose()
        await pairs[1][1].transport.aclose()
        frontend, worker = pairs[2]
        await frontend.send(worker)
        await pairs[1][0].send(worker)
        await frontend.send(pairs[0][1])

    @case(within=20.0)
    async def test_never_blocks_the_loop(self, stage: RequestStage) -> None:
        """Nothing blocks the event loop, whether the other side answers or not."""
        frontend, worker, outside = await stage.frontend(), await stage.worker(), await stage.outside()
        most = 0.3 * stage.patience
        await frontend.send(outside)
        async with _longest_gap() as gap:
            body = bytes(min(200_000, frontend.transport.max_frame_bytes - 1024))
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

    @case()
    async def test_prints_nothing(self, stage: RequestStage) -> None:
        """What it has to say goes to Host.log, and nothing to standard output or standard error."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _logs_go_somewhere():
            frontend, worker = await stage.frontend(), await stage.worker()
            await frontend.send(worker)
            worker.refuse = RuntimeError("a defect of the core")
            await fate(frontend.send(worker))
            await worker.listener.close()
            await fate(frontend.send(worker, within=0.5))
            await frontend.transport.aclose()
        said = out.getvalue() + err.getvalue()
        check(not said, did=f"it printed {said[:200]!r}", wanted="`host.log.warning(…)` and the like")

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
def _logs_go_somewhere() -> Iterator[None]:
    """Without any handler, logging itself prints warnings."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def wrong_values(subject: type[Any]) -> Iterator[tuple[str, str]]:
    """Each variable of a subject for which a value is known that it can't have."""
    settings: Any = getattr(subject, "settings", None)
    parsers: dict[str, Callable[[str], object]] = {
        field.metadata["variable"]: field.metadata["parse"]
        for field in (dataclasses.fields(settings) if settings is not None else ())
        if "variable" in field.metadata
    }
    for name, parse in parsers.items():
        for value in _JUNK:
            if value and _refuses(parse, value):
                yield name, value
                break
    loopback = cast("Mapping[str, str]", getattr(subject, "loopback", {}))
    for name in loopback:
        if name.endswith("PORT") and name not in parsers:
            yield name, "no port"


def _refuses(parse: Callable[[str], object], value: str) -> bool:
    try:
        parse(value)
    except ValueError:
        return True
    return False


def _check_names(error: object, names: list[str], value: str) -> None:
    problems = error.problems if isinstance(error, SettingsError) else []
    told = [variable for variable, _, _ in problems]
    check(
        any(name in told for name in names),
        did=f"with {names[0]} = {value!r} the SettingsError was about {', '.join(told) or 'nothing'}",
        wanted="the name of the variable, so that its reader knows what to change",
        look="where you make the SettingsError: its problems are (variable, value, what is wrong)",
    )


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """This process's own variables, for a while."""
    before = dict(os.environ)
    os.environ.update({name: value for name, value in variables.items() if "\0" not in value})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _told_why(when: str) -> Iterator[None]:
    """What is raised in the block is told with what was the case."""
    try:
        yield
    except SettingsError as error:
        check(
            False,
            did=f"{when}open or listen raised {type(error).__name__}: {error}",
            wanted="it works",
            look="`open` and `listen`: where they read variables, and what they leave behind",
        )


@contextlib.asynccontextmanager
async def _longest_gap() -> Any:
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


def _listening() -> list[int]:
    """The descriptors of this process that are listening sockets."""
    found: list[int] = []
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError, ValueError), socket.socket(fileno=os.dup(int(name))) as probe:
            if probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.append(int(name))
    return found
