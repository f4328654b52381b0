"""The loop that learns of everything late, and what is told to it at once all the same."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from reqplane_conformance.late import LateLoop, read_at_once

DELAY = 0.2


@pytest.mark.parametrize("late", [True, False])
def test_what_becomes_readable_is_told_late_or_at_once(late: bool):
    async def take() -> float:
        read, write = os.pipe()
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(read, told.set) if late else read_at_once(read, told.set)
        began = time.monotonic()
        os.write(write, b"x")
        await told.wait()
        loop.remove_reader(read)
        os.close(read)
        os.close(write)
        return time.monotonic() - began

    with asyncio.Runner(loop_factory=lambda: LateLoop(DELAY)) as runner:
        assert (runner.run(take()) >= DELAY) == late
