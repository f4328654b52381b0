"""How commands run what they have to run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import reqplane

T = TypeVar("T")


def run_worker(work: Coroutine[Any, Any, T]) -> T:
    """Run a worker to its end: on uvloop where that is installed, which is faster."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def leave_at_eof(runtime: reqplane.DistributedRuntime) -> None:
    """Whoever started us holds the other end of standard input; it closes when they go, however they go."""
    loop = asyncio.get_running_loop()

    def at_eof() -> None:
        loop.remove_reader(sys.stdin)  # an end stays readable for ever
        runtime.shutdown()

    loop.add_reader(sys.stdin, at_eof)
