"""Workers and frontends in processes of their own, for the loads of traffic.py."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from typing import Any

from fleet import HERE
from traffic import PATIENCE, Door

_COUNT = itertools.count()
"""A namespace for each fleet."""


class RelayedFleet:
    """Workers that serve `handlers:noted`, and frontends (relay.py) that call them."""

    def __init__(self, processes: Any, env: dict[str, str]) -> None:
        self._processes, self._env = processes, env
        self.path = f"relayed{next(_COUNT)}.worker.generate"

    async def worker(self, planes: str) -> subprocess.Popen[str]:
        process = self._start(f"reqplane serve handlers:noted {self.path}", planes)
        await self._says(process, "serving ")
        return process

    async def frontend(self, planes: str) -> tuple[subprocess.Popen[str], Door]:
        process = self._start(f"python relay.py {self.path}", planes)
        return process, await Door.open(int(await self._says(process, "port ")))

    def _start(self, command: str, planes: str) -> subprocess.Popen[str]:
        process: subprocess.Popen[str] = self._processes.start(
            command, {**self._env, "DYN_REQUEST_PLANE": planes}, HERE
        )
        return process

    async def _says(self, process: subprocess.Popen[str], words: str) -> str:
        """Wait until it has printed a line with these words; what stands behind them."""
        limit = asyncio.get_running_loop().time() + PATIENCE
        while True:
            printed: str = self._processes.output(process)
            _, found, rest = printed.partition(words)
            if found and "\n" in rest:
                return rest.partition("\n")[0]
            assert process.poll() is None, printed
            assert asyncio.get_running_loop().time() < limit, printed
            await asyncio.sleep(0.02)

    async def stop(self, process: subprocess.Popen[str]) -> None:
        """In order: it drains."""
        status, printed = await asyncio.to_thread(self._processes.stop, process)
        assert status == 0, printed
        assert "Traceback" not in printed
