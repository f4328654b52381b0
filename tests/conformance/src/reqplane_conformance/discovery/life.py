"""Backends are opened and closed, and leave nothing behind."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from reqplane.errors import DiscoveryError, SettingsError
from reqplane.interfaces import Discovery

from reqplane_conformance.case import case
from reqplane_conformance.discovery.hooks import DiscoverySuite
from reqplane_conformance.discovery.stage import (
    DiscoveryStage,
    going_perhaps,
    only_ours,
)
from reqplane_conformance.verdict import check, expected, fail

_CLOSING = "`aclose`: it withdraws what is registered, ends watches, and frees what was opened"


class LifeCases(DiscoverySuite, suite=True):
    """Opening and closing."""

    group = "life"

    @case(priority=6)
    async def test_nothing_left_over(self, stage: DiscoveryStage) -> None:
        """After aclose no task, socket, thread or timer is left, whatever was under way."""
        backend = await stage.backend()
        for endpoint in (stage.path(), None):
            await stage.watch(backend, endpoint)
        worker = await stage.published(backend)
        await stage.published(backend)
        await worker.withdraw()

    @case()
    async def test_opened_often(self, stage: DiscoveryStage) -> None:
        """It can be opened and closed twenty times, and numbers are free again each time."""
        for _ in range(20):
            backend = await stage.backend()
            worker = await stage.published(backend)
            await stage.watch(backend, stage.path())
            await stage.close(backend)
            check(
                worker.number == 0,
                did=f"a worker got number {worker.number}, when those before had been closed",
                wanted="0: `aclose` frees numbers before it returns",
                look=_CLOSING,
                blame="life.aclose_withdraws",
            )

    @case(needs=("registers",))
    async def test_aclose_withdraws(self, stage: DiscoveryStage) -> None:
        """aclose withdraws all workers: others are told that they go, and their numbers are free."""
        backend, frontend = await stage.backend(), await stage.backend()
        follower = await stage.watch(frontend)
        for path in (stage.path(), stage.path(), stage.path("embed")):
            await stage.published(backend, path)
        await follower.until(lambda: len(follower.there) == 3, "three workers")
        await stage.close(backend)
        await follower.until(
            lambda: not follower.there, "that three workers are gone whose backend was closed", look=_CLOSING
        )
        successor = await stage.worker(frontend)
        check(
            successor.number == 0,
            did=f"after aclose the lowest free number was {successor.number}",
            wanted="0",
            look=_CLOSING,
        )

    @case()
    async def test_aclose_ends_watches(self, stage: DiscoveryStage) -> None:
        """aclose ends every watch, so that nobody waits for ever."""
        backend = await stage.backend()
        followers = [await stage.watch(backend, path) for path in (stage.path(), None)]
        followers.append(stage.begin_watch(backend))
        await stage.close(backend)
        for follower in followers:
            ended = await follower.until_over()
            check(
                ended and (follower.error is None or isinstance(follower.error, DiscoveryError)),
                did=f"a watch raised {follower.error!r}" if ended else "a watch went on after aclose",
                wanted="it ends, or raises DiscoveryUnavailable",
                look=_CLOSING,
            )

    @case()
    async def test_aclose_twice(self, stage: DiscoveryStage) -> None:
        """aclose may be called again, and at the same time."""
        backend = await stage.backend()
        await stage.published(backend)
        await asyncio.gather(stage.close(backend), stage.close(backend, again=True))
        await stage.close(backend, again=True)

    @case()
    async def test_after_aclose(self, stage: DiscoveryStage) -> None:
        """After aclose reserve, publish and renew are DiscoveryErrors, and a watch ends at once."""
        backend = await stage.backend()
        worker = await stage.published(backend)
        await stage.close(backend)
        with _closed("reserve"):
            await backend.reserve(stage.path(), 1)
        follower = stage.begin_watch(backend)
        ended = await follower.until_over()
        check(
            ended and (follower.error is None or isinstance(follower.error, DiscoveryError)),
            did=f"a watch of a closed backend raised {follower.error!r}" if ended else "it waits for ever",
            wanted="a watch of a closed backend ends, or raises DiscoveryUnavailable",
            look="`watch` on a backend that is closed",
        )
        await worker.withdraw()
        if stage.capabilities.registers:
            with _closed("publish"):
                await worker.registration.publish(worker.record())
            with _closed("renew"):
                await worker.registration.renew()

    @case(needs=("registers",))
    async def test_aclose_while_busy(self, stage: DiscoveryStage) -> None:
        """aclose in the middle of reserve and publish ends them, and no worker stays behind."""
        frontend = await stage.backend()
        for turns in range(8):
            backend = await stage.backend()
            busy = [asyncio.ensure_future(_come(stage, backend)) for _ in range(4)]
            for _ in range(turns):
                await asyncio.sleep(0)
            await stage.close(backend)
            _, late = await asyncio.wait(busy, timeout=5.0 * stage.patience)
            check(
                not late,
                did="reserve or publish went on after aclose",
                wanted="they return, or raise DiscoveryUnavailable",
                look=_CLOSING,
            )
            for task in busy:
                task.result()
        follower = await stage.watch(frontend)
        await follower.until(
            lambda: not follower.there, "that nobody of a closed backend is there", look=_CLOSING
        )

    @case(priority=3)
    async def test_only_our_errors(self, stage: DiscoveryStage) -> None:
        """Whatever is wrong with a record or a moment, errors are ours: DiscoveryError or WireError."""
        backend = await stage.backend()
        worker = await stage.worker(backend)
        records: list[Any] = [worker.record(object()), worker.record({1: 2}), worker.record("\ud800"), {}]
        for record in records:
            with going_perhaps("publish"):
                await worker.registration.publish(record)
        with going_perhaps("renew"):
            await worker.registration.renew()
        await worker.withdraw()
        await stage.close(backend)
        for name, call in _calls(backend, worker, stage):
            with going_perhaps(name):
                await call

    @case()
    async def test_wrong_setting(self, stage: DiscoveryStage) -> None:
        """A setting that can't be used is a SettingsError that names its variable."""
        junk = dict(_junk(stage.subject))
        if not junk:
            stage.does_not_apply("it has no settings that can be wrong")
        for variable, value in junk.items():
            look = "`open`: it reads its settings by `reqplane.settings.load`"
            with expected(SettingsError, when=f"for {variable}={value!r}", what="open", look=look) as caught:
                await stage.open({variable: value})
            problems = caught.error.problems if isinstance(caught.error, SettingsError) else []
            named = [name for name, *_ in problems]
            check(
                variable in named,
                did=f"with {variable}={value!r} open complained of {', '.join(named) or 'nothing'}",
                wanted=f"a complaint of {variable}",
                look=look,
            )

    @case()
    async def test_settings_from_the_host(self, stage: DiscoveryStage) -> None:
        """Settings come from Host.env: what the process's own environment says makes no difference."""
        junk = dict(_junk(stage.subject))
        if not junk:
            stage.does_not_apply("it has no settings that can be wrong")
        env = {name: stage.variables().get(name, "") for name in junk}
        with mock.patch.dict(os.environ, junk):
            try:
                backend, _ = await stage.open(env)
            except SettingsError as error:
                fail(
                    f"open took its settings from os.environ: {error}",
                    "it takes them from Host.env alone, since there may be several runtimes in a process",
                    "`open`: `load(YourSettings, host.env)`",
                )
        await stage.close(backend)


@contextmanager
def _closed(what: str) -> Generator[None]:
    """It must be refused, since the backend is closed."""
    __tracebackhide__ = True
    look = f"`{what}` on a backend that is closed"
    with expected(DiscoveryError, when="after aclose", what=what, look=look), only_ours(what):
        yield


async def _come(stage: DiscoveryStage, backend: Discovery) -> None:
    """As a worker that starts."""
    with going_perhaps("reserve or publish"):
        registration = await backend.reserve(stage.path(), 1)
        await registration.publish({"transport": {"trial": "a:1"}})


def _calls(
    backend: Discovery, worker: Any, stage: DiscoveryStage
) -> Iterator[tuple[str, Coroutine[Any, Any, object]]]:
    """What may fail after aclose."""
    yield "reserve", backend.reserve(stage.path(), 1)
    yield "publish", worker.registration.publish(worker.record())
    yield "renew", worker.registration.renew()
    yield "withdraw", worker.registration.withdraw()


def _junk(subject: type[Discovery]) -> Iterator[tuple[str, str]]:
    """For each variable of the backend a value that it does not allow, where there is one."""
    for field in dataclasses.fields(subject.settings) if subject.settings else ():
        for value in ("-1", "://", "no such value!"):
            try:
                field.metadata["parse"](value)
            except ValueError:
                yield field.metadata["variable"], value
                break
