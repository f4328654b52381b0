"""What a case left behind: tasks, sockets, threads."""

from __future__ import annotations

import asyncio
import gc
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from reqplane_conformance.verdict import Nonconformance

_FOLDER = "/dev/fd"
_GRACE = 0.5
"""Seconds that a task, a thread or a socket may take to end after everything was closed."""


def sockets() -> set[tuple[int, int]]:
    """The sockets that this process has open, by device and inode."""
    found: set[tuple[int, int]] = set()
    for name in os.listdir(_FOLDER):
        with suppress(OSError, ValueError):
            status = os.fstat(int(name))
            if stat.S_ISSOCK(status.st_mode):
                found.add((status.st_dev, status.st_ino))
    return found


def waits_at(task: asyncio.Task[Any]) -> Iterator[str]:
    """Where a task waits: a line for each coroutine, the innermost last."""
    waiting: Any = task.get_coro()
    while (frame := getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)) is not None:
        file = os.path.basename(frame.f_code.co_filename)
        yield f"    {frame.f_code.co_qualname}, {file}:{frame.f_lineno}"
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)


async def check_tasks(before: set[asyncio.Task[object]], patience: float, blame: str) -> None:
    """Nonconformance if tasks are running that were not there before."""
    deadline = time.monotonic() + _GRACE * patience
    while (left := _tasks(before)) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    if left:
        shown = ", ".join(sorted(f"{task.get_name()} ({_place(task)})" for task in left))
        raise Nonconformance(
            f"after everything was closed, {len(left)} of its tasks still ran: {shown}",
            "no task left once all is closed",
            "what starts these tasks, and `aclose` or `close`, which have to cancel them and wait for them",
            blame=blame,
        )


def _tasks(before: set[asyncio.Task[object]]) -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}


def _place(task: asyncio.Task[object]) -> str:
    """Where a task waits."""
    stack = task.get_stack(limit=1)
    name = getattr(task.get_coro(), "__qualname__", repr(task.get_coro()))
    if not stack:
        return name
    return f"{name}, {os.path.basename(stack[-1].f_code.co_filename)}:{stack[-1].f_lineno}"


class Before:
    """What there was before a case, to compare with."""

    def __init__(self) -> None:
        self._sockets, self._threads = sockets(), set(threading.enumerate())

    def forget_lost_sockets(self) -> None:
        """Let go of sockets that nobody knows of any more; called while the loop still holds those in use.

        asyncio loses a connection that it was accepting when its server was closed: no transport can help it.
        """
        if self._new_sockets():
            gc.collect()

    def check(self, patience: float, blame: str) -> None:
        """Nonconformance if sockets or threads are there that were not."""
        deadline = time.monotonic() + _GRACE * patience
        while time.monotonic() < deadline and (self._new_sockets() or self._new_threads()):
            time.sleep(0.01)
        if count := self._new_sockets():
            raise Nonconformance(
                f"after everything was closed, {count} of its sockets were still open",
                "no socket left once all is closed",
                "`aclose`, `close`, and what becomes of a connection when a `send` fails or is cancelled",
                blame=blame,
            )
        if names := self._new_threads():
            raise Nonconformance(
                f"after everything was closed, its threads still ran: {', '.join(names)}",
                "no thread left once all is closed",
                "what starts these threads; `aclose` has to end and join them",
                blame=blame,
            )

    def _new_sockets(self) -> int:
        return len(sockets() - self._sockets)

    def _new_threads(self) -> list[str]:
        return [thread.name for thread in set(threading.enumerate()) - self._threads if thread.is_alive()]
