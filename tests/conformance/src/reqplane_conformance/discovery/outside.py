"""Workers in a process of its own, so that it can be killed and frozen.

It is told what to do, and tells what became of it, in lines of JSON on its standard streams.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from reqplane.model import EndpointId

from reqplane_conformance.discovery.stage import DiscoveryStage
from reqplane_conformance.late import read_at_once
from reqplane_conformance.outside import import_path
from reqplane_conformance.verdict import Nonconformance

_START = 20.0
"""Seconds that a process may take until its backend is open."""
_PATIENCE = 30.0
"""Seconds that it may take to do something."""


@dataclass(frozen=True, slots=True)
class There:
    """A worker of another process."""

    endpoint: EndpointId
    number: int
    incarnation: int


class OutsideProcess:
    """Has a backend open; registers workers with it, and registers them again when they are lost."""

    def __init__(self, stage: DiscoveryStage, process: subprocess.Popen[bytes]) -> None:
        self._stage, self._process = stage, process
        self.workers: list[There] = []
        self.renewed = 0
        """How many registrations were lost and then taken again."""
        self._told: list[dict[str, Any]] = []
        self._over = False
        self._rest = b""
        self._changed = asyncio.Event()

    @classmethod
    async def start(cls, stage: DiscoveryStage, env: Mapping[str, str]) -> Self:
        """Start it and wait until its backend is open."""
        variables = {**stage.env, **env, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [
            *(sys.executable, "-m", "reqplane_conformance.discovery.process"),
            *import_path(stage.subject),
        ]
        process = subprocess.Popen(
            command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        outside = cls(stage, process)
        os.set_blocking(outside._output, False)
        read_at_once(outside._output, outside._read)
        try:
            await outside._answer("open", _START)
        except BaseException:
            await outside.aclose()
            raise
        return outside

    @property
    def _output(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def _read(self) -> None:
        try:
            data = os.read(self._output, 1 << 20)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._output)
            self._over = True
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            said: dict[str, Any] = json.loads(line)
            if said.pop("what") == "renewed":
                self.renewed += 1
            else:
                self._told.append(said)
        self._changed.set()

    async def _answer(self, what: str, seconds: float = _PATIENCE) -> dict[str, Any]:
        """What it said next."""
        seconds *= self._stage.patience
        deadline = time.monotonic() + seconds
        while not self._told:
            left = deadline - time.monotonic()
            if left <= 0 or self._over:
                ended = "ended" if self._over else f"said nothing for {seconds:g} s"
                raise Nonconformance(
                    f"a process that had the backend to itself {ended} (what it printed is above)",
                    f"{what} succeeds in a process of its own",
                    f"`{what}`; is your class where its module can be imported?",
                )
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                continue
        return self._told.pop(0)

    async def do(self, what: str, **how: Any) -> dict[str, Any]:
        """Let it do something, and wait until that is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **how}).encode() + b"\n")
        self._process.stdin.flush()
        return await self._answer(what)

    async def reserve(self, endpoint: EndpointId, count: int = 1) -> list[int]:
        """Take so many numbers, all at once."""
        numbers: list[int] = (await self.do("reserve", path=str(endpoint), count=count))["numbers"]
        return numbers

    async def register(self, endpoint: EndpointId) -> There:
        """One more worker, with its record."""
        said = await self.do("register", path=str(endpoint))
        worker = There(endpoint, said["number"], said["incarnation"])
        self.workers.append(worker)
        return worker

    def kill(self) -> None:
        """As a machine that loses its power, but that its connections are closed."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def aclose(self) -> None:
        asyncio.get_running_loop().remove_reader(self._output)
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
