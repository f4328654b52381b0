"""Workers and a frontend under traffic, each a process of its own, and what becomes of the calls."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet import HERE, PATH, Fleet

PATIENCE = 30.0
"""Seconds that processes may take to start, and calls to end, on a loaded machine."""
CALLERS = 50


@dataclass
class Call:
    """One call as its caller saw it; `end` is None while it goes on, `instance` the worker's number."""

    begin: float
    end: float | None = None
    error: str | None = None
    text: str = ""
    reason: str | None = None
    instance: str | None = None


@dataclass
class Verdict:
    """What became of the calls that were in flight at any time of a stretch.

    `failed`: they failed, although some worker could have answered.  `taken`: they failed because the
    worker that had taken them, or may have, was killed or frozen.  `twice`: ids that handlers ran twice.
    `gap`: the longest time without an answer, in seconds.
    """

    calls: int
    failed: list[Call]
    taken: list[Call]
    twice: list[str]
    gap: float

    def complaint(self) -> str:
        """What there is to say of failures: how many of which kind, and one of each."""
        kinds = {(call.error, call.text.split(" (")[0]): call for call in self.failed}
        shown = [f"{call.error} of instance {call.instance}: {call.text}" for call in kinds.values()]
        return f"{len(self.failed)} of {self.calls} calls failed:\n" + "\n".join(shown[:10])


class Trial(Fleet):
    """A fleet whose processes write to files, with a frontend that never rests."""

    def __init__(self, folder: Path, env: Mapping[str, str], pace: float = 1.0) -> None:
        super().__init__(folder / "discovery")
        self.env.update(env)
        self._pace = pace
        self.workers: list[subprocess.Popen[str]] = []
        self.ran = folder / "ran"
        """What handlers have run: a file for each worker, a line for each call."""
        self._outputs = folder / "outputs"
        for made in (self.ran, self._outputs):
            made.mkdir(parents=True)
        self.calls: dict[str, Call] = {}
        self.known: list[tuple[float, dict[int, int]]] = []
        """Whom the frontend knew, and from when on: incarnations by number."""
        self._transports: dict[int, str] = {}
        self._read = 0

    def started(self, command: Sequence[str], **env: str) -> subprocess.Popen[str]:
        name = self._outputs / str(len(self._processes))
        with name.open("w") as output, name.with_suffix(".log").open("w") as log:
            process = subprocess.Popen(
                command, env={**os.environ, **self.env, **env}, cwd=HERE, stdout=output, stderr=log, text=True
            )
        self._processes.append(process)
        return process

    def output(self, process: subprocess.Popen[str]) -> Path:
        """The file of its standard output; what it logged lies beside it, as .log."""
        return self._outputs / str(self._processes.index(process))

    def logged(self, process: subprocess.Popen[str]) -> str:
        return self.output(process).with_suffix(".log").read_text()

    # ── who takes part ──

    def worker(self, **env: str) -> subprocess.Popen[str]:
        """One more worker."""
        process = self.start("noted", **env)
        self.workers.append(process)
        return process

    def frontend(self, callers: int = CALLERS, **env: str) -> subprocess.Popen[str]:
        """A frontend with its callers."""
        return self.run("busy_frontend.py", PATH, str(callers), str(self.ran), str(self._pace), **env)

    def begin(self, workers: int = 3) -> None:
        """Start everything, and return when all workers are known and calls are answered."""
        for _ in range(workers):
            self.worker()
        self.traffic = self.frontend()
        self.until(lambda: len(self.now_known()) == workers and self.answered() > CALLERS)

    def end(self) -> None:
        """Stop calling; every call must have ended, and workers leave in order with status 0."""
        self.traffic.send_signal(signal.SIGTERM)
        assert self.traffic.wait(PATIENCE) == 0, self.logged(self.traffic)[-3000:]
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            assert worker.wait(PATIENCE) == 0, self.logged(worker)[-3000:]

    def incarnation(self, worker: subprocess.Popen[str]) -> int:
        """Which of those that the frontend has known this process is."""
        said = re.search(r" at (\S+)$", self.logged(worker), re.MULTILINE)
        assert said, f"the worker has not begun:\n{self.logged(worker)}"
        address = said[1].split("/v1/")[0]  # what follows has its number, which may change
        (found,) = [key for key, transport in self._transports.items() if address in transport]
        return found

    def lose(self, worker: subprocess.Popen[str], number: int) -> None:
        """End one of the workers by this signal, and wait."""
        self.workers.remove(worker)
        worker.send_signal(number)
        worker.wait(PATIENCE)

    # ── what has happened ──

    def until(self, condition: Callable[[], Any], within: float = PATIENCE) -> float:
        """Wait until it holds; the time.  AssertionError, with what was logged, if it does not."""
        limit = time.monotonic() + within
        while True:
            self.look()
            if condition():
                return time.monotonic()
            ended = [one for one in [self.traffic, *self.workers] if one.poll() is not None]
            assert not ended, f"{len(ended)} processes have ended\n{self._last_words()}"
            assert time.monotonic() < limit, f"did not come true within {within} s\n{self._last_words()}"
            time.sleep(0.05)

    def _last_words(self) -> str:
        return "\n".join(
            f"── pid {process.pid}, status {process.returncode}:\n{self.logged(process)[-1500:]}"
            for process in self._processes
        )

    def look(self) -> None:
        """Read on in what the frontend tells."""
        with self.output(self.traffic).open() as told:
            told.seek(self._read)
            while (line := told.readline()).endswith("\n"):
                self._take(json.loads(line))
                self._read = told.tell()

    def _take(self, told: dict[str, Any]) -> None:
        if "known" in told:
            self.known.append((told["at"], {number: key for number, key, _ in told["known"]}))
            self._transports |= {key: transport for _, key, transport in told["known"]}
        elif "begin" in told:
            self.calls[told["id"]] = Call(told["begin"])
        else:
            name = told.pop("id")
            self.calls[name] = Call(self.calls[name].begin, **told)

    def now_known(self) -> dict[int, int]:
        """Incarnations by number."""
        return self.known[-1][1] if self.known else {}

    def answered(self) -> int:
        return sum(call.end is not None and call.error is None for call in self.calls.values())

    def verdict(self, since: float, victims: Collection[int] = (), until: float | None = None) -> Verdict:
        """What became of the calls since then.  `victims` are the numbers of workers that were killed or
        frozen: what they had taken, or may have, is counted apart."""
        end = time.monotonic() if until is None else until
        self.until(lambda: all(call.end is not None for call in self.calls.values() if call.begin <= end))
        touched = {
            name: call
            for name, call in self.calls.items()
            if call.begin <= end and call.end is not None and call.end >= since
        }
        failed = [call for call in touched.values() if call.error is not None]
        lost = {str(number) for number in victims}
        taken = [call for call in failed if call.instance in lost and _was_taken(call)]
        answers = [call.end for call in touched.values() if call.error is None and call.end is not None]
        moments = [since, *sorted(moment for moment in answers if since <= moment <= end), end]
        runs = Counter(line for file in self.ran.iterdir() for line in file.read_text().splitlines())
        return Verdict(
            len(touched),
            [call for call in failed if call not in taken],
            taken,
            [name for name in touched if runs[name] > 1],
            max(after - before for before, after in itertools.pairwise(moments)),
        )


def _was_taken(call: Call) -> bool:
    """Whether the worker had the request, or may have had it: then it must not be sent again."""
    return call.error in {"StreamBroken", "DeliveryUnknown"}


@dataclass
class Results:
    """The rows of a table, told when all is over."""

    rows: list[str] = field(default_factory=list)

    def add(self, case: str, verdict: Verdict, registered: float | None, note: str = "") -> str:
        """One more row."""
        seconds = "" if registered is None else f"{registered:.1f}"
        row = (
            f"| {case} | {verdict.calls} | {len(verdict.failed)} | {len(verdict.taken)} "
            f"| {len(verdict.twice)} | {verdict.gap:.1f} | {seconds} | {note} |"
        )
        self.rows.append(row)
        return row

    def text(self) -> str:
        numbers = "calls | failed | taken | ran twice | longest gap, s | registered after, s"
        return "\n".join([f"| what is done | {numbers} | |", f"| --- |{' ---: |' * 6} --- |", *self.rows])
