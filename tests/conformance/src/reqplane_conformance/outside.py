"""A process of its own for one side of a case, so that it can be killed and frozen.

It is told what to do, and tells what happens there, in lines of JSON on its standard streams;
`reqplane_conformance.inside` is the other end.
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
from pathlib import Path
from typing import Any, ClassVar, Self

from reqplane_conformance.late import read_at_once
from reqplane_conformance.stage import Stage
from reqplane_conformance.verdict import Nonconformance

_START = 12.0
"""Seconds that a process may take until it is ready: less than most cases may take."""
_DO = 10.0
"""Seconds that it may take for what it is told to do."""


def import_path(cls: type[Any]) -> list[str]:
    """What the child needs to find the class: its module's name, its file, its name."""
    module = sys.modules[cls.__module__]
    return [cls.__module__, str(Path(module.__file__ or "").absolute()), cls.__qualname__]


class OutsideProcess:
    """The subject in a child process.  Subclasses say which module it runs, and what they want to know."""

    module: ClassVar[str]
    """Run with the subject's `import_path` as its arguments."""
    ready: ClassVar[str] = "listens"
    """What it says first."""

    def __init__(self, stage: Stage, process: subprocess.Popen[bytes]) -> None:
        self.stage, self._process = stage, process
        self._told: dict[str, Any] = {}
        self._rest = b""
        self._changed = asyncio.Event()

    @classmethod
    async def start(cls, stage: Stage, env: Mapping[str, str], *arguments: str) -> Self:
        """Start it and wait until it is ready."""
        variables = {**stage.env, **env, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", cls.module, *import_path(stage.subject), *arguments]
        process = subprocess.Popen(
            command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        outside = cls(stage, process)
        os.set_blocking(outside._output, False)
        read_at_once(outside._output, outside._read)
        try:
            outside.begun(await outside.wait_for(cls.ready, _START * stage.patience))
        except BaseException:
            await outside.aclose()
            raise
        return outside

    def begun(self, said: dict[str, Any]) -> None:
        """It is ready, and said so with these members."""

    def heard(self, said: dict[str, Any]) -> bool:
        """It said something; True if that was taken, and else `wait_for` can wait for it."""
        return False

    async def wait_for(self, what: str, seconds: float) -> Any:
        """The line of that name, once it has come."""
        deadline = time.monotonic() + seconds
        while what not in self._told:
            left = deadline - time.monotonic()
            if left <= 0 or "over" in self._told:
                ended = "ended" if "over" in self._told else f"said nothing for {seconds:g} s"
                raise Nonconformance(
                    f"a process with your class {ended} (what it printed is above)",
                    f"open and listen succeed in a process of its own, and it {what}",
                    "`open` and `listen`; is your class where its module can be imported?",
                )
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                continue
        return self._told.pop(what)

    async def do(self, what: str, **how: Any) -> Any:
        """Let it do something, and wait until that is done: its answer's members."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **how}).encode() + b"\n")
        self._process.stdin.flush()
        return await self.wait_for("done", _DO * self.stage.patience)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """As a machine that loses its power; its sockets are closed when this returns."""
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
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if not self.heard(said):
                self._told[said["what"]] = said
        if not data:
            self._told["over"] = True
        self._changed.set()
