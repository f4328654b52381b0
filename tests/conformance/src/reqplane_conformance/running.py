"""Runs one case: a loop of its own, a deadline, and a look at what was left over."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, ClassVar, Protocol

from reqplane_conformance.case import Case
from reqplane_conformance.leftovers import Before, check_tasks, waits_at
from reqplane_conformance.strain import Strain
from reqplane_conformance.verdict import Nonconformance
from reqplane_conformance.watchdog import watchdog

_CLOSING = 10.0
"""Seconds that closing everything may take."""
_TRIES = 8
"""How often what waits for too long is cancelled before it counts as withstanding that."""


class Staged(Protocol):
    """What a case acts on."""

    strain: Strain
    leftover_case: ClassVar[str]

    async def aclose(self) -> None: ...


def run_case(case: Case, work: Callable[[], Coroutine[Any, Any, None]], stage: Staged) -> None:
    """Run it to its end; Nonconformance or whatever it raises."""
    __tracebackhide__ = True
    patience = stage.strain.patience
    before = Before()
    loop = stage.strain.new_loop()
    asyncio.set_event_loop(loop)
    try:
        with watchdog((case.within + 2 * _CLOSING) * patience):
            loop.run_until_complete(_supervised(case, work, stage))
            before.forget_lost_sockets()
    finally:
        asyncio.set_event_loop(None)
        _close(loop)
    before.check(patience, stage.leftover_case)


async def _supervised(case: Case, work: Callable[[], Coroutine[Any, Any, None]], stage: Staged) -> None:
    __tracebackhide__ = True
    loop = asyncio.get_running_loop()
    unseen: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unseen.append(context))
    patience = stage.strain.patience
    before = asyncio.all_tasks()
    body = loop.create_task(work(), name=case.id)
    try:
        await _within(body, case.within * patience, "the case")
    except BaseException:
        with suppress(Exception, asyncio.CancelledError):
            await _close_stage(stage, patience)
        raise
    await _close_stage(stage, patience)
    await check_tasks(before, patience, stage.leftover_case)
    if unseen:
        raised = unseen[0].get("exception")
        raise Nonconformance(
            f"the event loop was told of an error that nobody handled: {unseen[0]['message']} ({raised!r})",
            "errors come out of the method that was called, or are logged by Host.log",
            "callbacks of the loop, and tasks whose result nobody looks at",
            blame=stage.leftover_case,
        ) from raised


async def _close_stage(stage: Staged, patience: float) -> None:
    closing = asyncio.get_running_loop().create_task(stage.aclose(), name="closing")
    await _within(closing, _CLOSING * patience, "closing everything", stage.leftover_case)


async def _within(task: asyncio.Task[None], seconds: float, what: str, blame: str = "") -> None:
    """Wait for a task, at most that long; it is cancelled then, and may not withstand."""
    __tracebackhide__ = True
    await asyncio.wait({task}, timeout=seconds)
    if task.done():
        return await task
    place = "\n".join(waits_at(task))
    for _ in range(_TRIES):  # of several that are closed one by one, each may wait
        task.cancel()
        await asyncio.wait({task}, timeout=2.0 / _TRIES)
    if not task.done():
        raise Nonconformance(
            f"{what} did not end within {seconds:g} s, and withstood being cancelled; it waits at\n{place}",
            "whatever waits ends, and a cancelled task ends at once",
            "an `except` that catches CancelledError, and a loop around it",
            blame=blame,
        )
    raise Nonconformance(
        f"{what} did not end within {seconds:g} s; it waited at\n{place}",
        "whatever waits ends: by its deadline, by a time-out of its own, or when it is closed",
        "what the last lines above wait for, and who should have woken it up",
        blame=blame,
    )


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Whatever state its tasks are in: nothing that hangs may hang the run."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        with suppress(BaseException):
            loop.run_until_complete(asyncio.wait(tasks, timeout=2.0))
    for task in tasks:
        if not task.done():
            task._log_destroy_pending = False  # type: ignore[attr-defined]
    with suppress(BaseException):
        loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), 2.0))
    with suppress(BaseException):
        loop.run_until_complete(asyncio.wait_for(loop.shutdown_default_executor(), 2.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()
