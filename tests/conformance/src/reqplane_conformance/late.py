"""An event loop that learns of everything late, as over a slow network.

What becomes readable is told some milliseconds later.  In the meantime more may come, so messages run
together and arrive in other pieces than they were sent in.  It works for whatever waits by the loop: TCP,
Unix sockets, and libraries that hand their descriptor to `add_reader`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class LateLoop(asyncio.SelectorEventLoop):
    """Each way takes `delay` seconds longer."""

    def __init__(self, delay: float) -> None:
        self._delay = 0.0  # what wakes the loop itself up is never late
        self._due: dict[int, asyncio.TimerHandle] = {}
        super().__init__()
        self._delay = delay

    def _add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> Any:
        base: Any = super()
        if not self._delay:
            return base._add_reader(fd, callback, *args)
        number = fd if isinstance(fd, int) else fd.fileno()
        self._cancel(number)

        def readable() -> None:
            base._remove_reader(number)
            self._due[number] = self.call_later(self._delay, tell)

        def tell() -> None:
            del self._due[number]
            base._add_reader(number, readable)
            callback(*args)

        return base._add_reader(number, readable)

    def _remove_reader(self, fd: Any) -> bool:
        number = fd if isinstance(fd, int) else fd.fileno()
        was_due = self._cancel(number)
        base: Any = super()
        return base._remove_reader(fd) or was_due

    def _cancel(self, number: int) -> bool:
        handle = self._due.pop(number, None)
        if handle is not None:
            handle.cancel()
        return handle is not None


def read_at_once(fd: int, callback: Callable[[], object]) -> None:
    """`add_reader` of the running loop, never late: for pipes by which the suite's own processes report."""
    prompt: Any = asyncio.SelectorEventLoop
    prompt._add_reader(asyncio.get_running_loop(), fd, callback)
