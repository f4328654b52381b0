"""A worker in a process of its own, so that it can be killed and frozen.

It is told what to do, and tells what arrived, in lines of JSON on its standard streams.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from reqplane.model import EndpointId, Instance

from reqplane_conformance.request.stage import Got, instance_of
from reqplane_conformance.verdict import Nonconformance

if TYPE_CHECKING:
    from reqplane_conformance.request.stage import RequestStage

_START = 20.0
"""Seconds that a process may take until it listens."""


def import_path(cls: type[Any]) -> list[str]:
    """What the child needs to find the class: its module's name, its file, its name."""
    module = sys.modules[cls.__module__]
    return [cls.__module__, str(Path(module.__file__ or "").absolute()), cls.__qualname__]


class OutsideWorker:
    """Serves one endpoint in a child process; has the same face as a `stage.Worker`, as far as it goes."""

    def __init__(self, stage: RequestStage, process: subprocess.Popen[bytes]) -> None:
        self._stage, self._process = stage, process
        self.got: list[Got] = []
        self.endpoint = EndpointId("conformance", "outside", "generate")
        self.record: Mapping[str, Any] = {}
        self.incarnation = 0
        self._told: dict[str, Any] = {}
        self._rest = b""
        self._changed = asyncio.Event()

    @classmethod
    async def start(cls, stage: RequestStage, env: Mapping[str, str]) -> Self:
        """Start it and wait until it listens."""
        variables = {**stage.env, **env, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", "reqplane_conformance.request.process", *import_path(stage.subject)]
        process = subprocess.Popen(
            command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        worker = cls(stage, process)
        os.set_blocking(worker._output, False)
        asyncio.get_running_loop().add_reader(worker._output, worker._read)
        try:
            listening = await worker._wait_for("listens", _START * stage.patience)
        except BaseException:
            await worker.aclose()
            raise
        worker.record, worker.incarnation = listening["record"], listening["incarnation"]
        return worker

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
            self._take(json.loads(line))
        if not data:
            self._told["over"] = True
        self._changed.set()

    def _take(self, said: dict[str, Any]) -> None:
        if said["what"] == "got":
            self.got.append(Got(base64.b64decode(said["frame"]), said["headers"], said["at"]))
        else:
            self._told[said["what"]] = said

    async def _wait_for(self, what: str, seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while what not in self._told:
            left = deadline - time.monotonic()
            if left <= 0 or "over" in self._told:
                ended = "ended" if "over" in self._told else f"said nothing for {seconds:g} s"
                raise Nonconformance(
                    f"a worker's process {ended} (what it printed is above)",
                    f"open and listen succeed in a process of its own, and it {what}",
                    "`open` and `listen`; is your class where its module can be imported?",
                )
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                continue
        return self._told.pop(what)

    async def do(self, what: str, **how: Any) -> None:
        """Let it do something, and wait until that is done: "refuse" (code, text), "takes" (seconds),
        "drain", "close", or "dies": in the accept of the frame number `count` from now, before that has
        returned; with `drains`, once it has returned and the listener is drained.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **how}).encode() + b"\n")
        self._process.stdin.flush()
        await self._wait_for("done", 10 * self._stage.patience)

    @property
    def instance(self) -> Instance:
        return instance_of(self._stage.subject.name, self.endpoint, self.incarnation, 0, self.record)

    @property
    def frames(self) -> list[bytes]:
        return [got.frame for got in self.got]

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
