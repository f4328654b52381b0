"""A thread that does one thing again and again, whatever the event loop is doing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable


class Ticker:
    """Calls `work` every `period` seconds, and at once when poked.

    The thread starts with the first `poke` and is a daemon, so a program that forgets to close can still
    end.  An exception of `work` is logged, once until it works again, and the ticks go on.
    """

    def __init__(self, name: str, period: float, work: Callable[[], None], log: logging.Logger) -> None:
        self._period, self._work, self._log = period, work, log
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def poke(self) -> None:
        """Work now rather than at the next tick.  Called on the event loop."""
        if self._stopping:
            return
        self._wake.set()
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """Return when the thread has ended; idempotent."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        complaint = ""
        while True:
            self._wake.wait(self._period)
            if self._stopping:
                return
            self._wake.clear()
            try:
                self._work()
                complaint = ""
            except Exception as error:
                former, complaint = complaint, f"{type(error).__name__}: {error}"
                if complaint != former:
                    self._log.warning("discovery: %s; trying again", complaint)
