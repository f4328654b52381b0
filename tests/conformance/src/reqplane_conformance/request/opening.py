"""Opening and serving: its settings, and the address where it listens."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from reqplane.errors import SettingsError

from reqplane_conformance.case import case
from reqplane_conformance.request.hooks import RequestSuite
from reqplane_conformance.request.places import reached
from reqplane_conformance.request.stage import RequestStage
from reqplane_conformance.verdict import Nonconformance, check, expected

_JUNK = ("none of this!", "-1", "\x01", "")
"""Values that most variables can't have."""
_NO_PORT = "its `loopback` has no variable whose name ends with PORT"


class OpeningCases(RequestSuite, suite=True):
    """What a transport makes of its settings, and of its address."""

    group = "life"

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
    async def test_address_is_free_after_close(self, stage: RequestStage) -> None:
        """When the last listener is closed, its address is free at once, also for another process."""
        env = stage.one_port()
        if not env:
            stage.does_not_apply(_NO_PORT)
        for _ in range(3):
            frontend = await stage.frontend()  # one that was connected may not know yet that it is cut off
            first = await stage.worker(env=env)
            second = await stage.worker("conformance.backend.two", beside=first)
            await frontend.deliver(first)
            await frontend.deliver(second)
            place = await reached(first.record)
            await asyncio.gather(first.listener.close(), second.listener.close())
            check(
                place is None or not await place.is_open(),
                did="after the last listener had been closed, somebody still listened at its address",
                wanted="close frees the address",
                look="`Listener.close` of the last one",
            )
        with told_why("where its last listener had just been closed, "):
            frontend, worker = await stage.frontend(), await stage.outside(**env)
        await frontend.deliver(worker, when="where another listener had just been closed")

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
                with told_why("after a listen there had been cancelled, "):
                    await listening.result().listener.close()
        with told_why("after a listen there had been cancelled, "):
            frontend, worker = await stage.frontend(), await stage.worker(env=env)
        await frontend.deliver(worker, when="after a listen there had been cancelled")

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
def told_why(when: str) -> Generator[None]:
    """What is raised in the block is told with what was the case."""
    try:
        yield
    except Nonconformance:
        raise
    except Exception as error:
        raise Nonconformance(
            f"{when}open or listen raised {type(error).__name__}: {error}",
            "it works",
            "`open` and `listen`: where they read variables, and what they leave behind",
        ) from error
