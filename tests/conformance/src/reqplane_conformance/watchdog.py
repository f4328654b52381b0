"""Ends a case whose subject blocks the event loop, where no time-out of asyncio can."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

from reqplane_conformance.verdict import Nonconformance

_SIGNAL = signal.SIGUSR2


@contextmanager
def watchdog(seconds: float) -> Generator[None]:
    """Nonconformance in the main thread if the block takes longer; elsewhere it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def bark(number: int, frame: object) -> NoReturn:
        raise Nonconformance(
            f"it kept the event loop busy, so that nothing else ran for up to {seconds:g} s",
            "nothing in a transport blocks: what waits, awaits",
            "calls that block (time.sleep, a synchronous client, a lock), and loops without an await",
        )

    main = threading.main_thread().ident
    assert main is not None
    former = signal.signal(_SIGNAL, bark)
    timer = threading.Timer(seconds, signal.pthread_kill, (main, _SIGNAL))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(_SIGNAL, former)
