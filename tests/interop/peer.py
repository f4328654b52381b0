"""A peer process: commands go in, events come out, and every wait for one has a limit."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PATIENCE = 40.0
"""Seconds that anything may take on a loaded machine."""

Event = Mapping[str, Any]


class Trouble(Exception):
    """A peer did not do what it should have; the text says what that was, in words."""


class Peer:
    """One process.  What it logs goes to a file."""

    def __init__(self, command: Sequence[str | Path], env: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._events: list[dict[str, Any]] = []
        self._heard = threading.Condition()
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command,
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.hello: Event = {}

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._heard:
                self._events.append(json.loads(line))
                self._heard.notify_all()
        with self._heard:
            self._heard.notify_all()

    @property
    def pid(self) -> int:
        return self.process.pid

    def started(self) -> Event:
        """Wait for its first words: who it is, read from the process itself."""
        self.hello = self.wait("hello")
        assert self.hello["pid"] == self.pid
        return self.hello

    def tell(self, do: str, **fields: Any) -> None:
        """Command something; what comes of it comes as events."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
            self.process.stdin.flush()

    def wait(self, *names: str, within: float = PATIENCE, **fields: Any) -> dict[str, Any]:
        """The next event of one of these names with these fields, taken out of the queue; else Trouble."""
        wanted = " or ".join(names) + "".join(f", {name} {value!r:.60}" for name, value in fields.items())
        deadline = time.monotonic() + within
        with self._heard:
            while True:
                found = self._take(names, fields)
                if found is not None:
                    return found
                if not self._reader.is_alive():
                    self.process.wait(PATIENCE)
                    raise Trouble(f"{self} ended ({self.process.returncode}) without: {wanted}{self._last()}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Trouble(f"{self} did not tell of this within {within:g} s: {wanted}{self._last()}")
                self._heard.wait(min(left, 0.5))

    def _take(self, names: Sequence[str], fields: Mapping[str, Any]) -> dict[str, Any] | None:
        for index, event in enumerate(self._events):
            if event["event"] in names and all(event.get(key) == value for key, value in fields.items()):
                return self._events.pop(index)
        return None

    def heard(self, name: str, **fields: Any) -> bool:
        """Whether it has told of this by now."""
        with self._heard:
            return any(
                event["event"] == name and all(event.get(key) == value for key, value in fields.items())
                for event in self._events
            )

    def _last(self) -> str:
        """The end of its log, for a message."""
        lines = self.log.read_text(errors="replace").strip().splitlines()[-6:]
        return "".join(f"\n    {line[:400]}" for line in lines)

    def __str__(self) -> str:
        return f"the {self.log.stem} (pid {self.pid})"

    def terminate(self) -> None:
        """SIGTERM: leave in order."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """As a machine that loses its power."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def ended(self, within: float = PATIENCE) -> int:
        """Wait for its end: the exit status."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise Trouble(f"{self} still ran {within:g} s after it was told to leave{self._last()}") from None

    def close(self) -> None:
        """Whatever state it is in."""
        if self.process.poll() is None:
            self.kill()
        self._reader.join(PATIENCE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
