"""Hard times for a run: a slow network, or a machine with too much to do.

A case that passes by lucky timing fails under one of them.  `patience` is what deadlines are multiplied by.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from reqplane_conformance.late import LateLoop

DELAY = 0.05
"""Seconds that each way takes longer under `delay`."""
KINDS = ("none", "delay", "load")


@dataclass(frozen=True, slots=True)
class Strain:
    """One of KINDS."""

    kind: str = "none"

    @property
    def patience(self) -> float:
        return {"none": 1.0, "delay": 4.0, "load": 4.0}[self.kind]

    @property
    def delay(self) -> float:
        return DELAY if self.kind == "delay" else 0.0

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return LateLoop(self.delay) if self.delay else asyncio.SelectorEventLoop()

    @contextmanager
    def applied(self) -> Generator[None]:
        """While the block runs, one busy process for each core of this machine, under `load`."""
        hogs: list[subprocess.Popen[bytes]] = []
        try:
            if self.kind == "load":
                endless = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(100000))"
                command = [sys.executable, "-c", endless]
                hogs += [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
            yield
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()
