"""A trial whose workers are found by an etcd that things happen to."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from servers import Etcd
from trial import PATIENCE, Results, Trial, Verdict

PREFIX = "v1/instances/namespace.test."
SOON = 3.0
"""Seconds after etcd's return, or a worker's, within which all workers are registered."""


@dataclass(frozen=True)
class Scale:
    """How long leases last, and how long things are away, in seconds; and how fast calls are."""

    ttl: int
    away: float
    pace: float = 1.0


@dataclass
class Case:
    """What a test fills in while it does something.

    `victims` are the numbers of workers that it harmed, `registered` is how long it took until all were
    registered again, `note` is for the table; `verdict` is there afterwards.
    """

    victims: set[int] = field(default_factory=set)
    registered: float | None = None
    note: str = ""
    verdict: Verdict | None = None


class EtcdTrial(Trial):
    """`etcd` is the member that is looked at; `user` are etcdctl's arguments to log in."""

    def __init__(
        self, folder: Path, etcd: Etcd, scale: Scale, env: Mapping[str, str], user: Sequence[str] = ()
    ) -> None:
        discovery = {
            "DYN_DISCOVERY_BACKEND": "etcd",
            "ETCD_ENDPOINTS": etcd.url,
            "ETCD_LEASE_TTL": str(scale.ttl),
        }
        super().__init__(folder, {**discovery, **env}, scale.pace)
        self.etcd, self.scale = etcd, scale
        self.results = Results()
        self._user = user

    # ── what etcd holds ──

    def ctl(self, *arguments: str) -> str:
        return self.etcd.ctl(*self._user, *arguments)

    def entries(self) -> dict[int, tuple[int, str]]:
        """What etcdctl reads: by number the incarnation and the lease."""
        told = json.loads(self.ctl("get", "--prefix", PREFIX, "-w", "json"))
        found: dict[int, tuple[int, str]] = {}
        for entry in told.get("kvs", []):
            if "value" not in entry:
                continue  # a number that is taken, by one who has not published yet
            record = json.loads(base64.b64decode(entry["value"]))
            found[record["instance_id"]] = record["incarnation"], f"{entry.get('lease', 0):x}"
        return found

    def incarnations(self) -> list[int]:
        return sorted(incarnation for incarnation, _ in self.entries().values())

    def leases(self) -> set[str]:
        return {lease for _, lease in self.entries().values()}

    def registered(self, since: float, wanted: Sequence[int], watched: float) -> float:
        """Seconds from then until just these workers stood in etcd, to stay as long as it was watched."""
        complete: float | None = None
        while complete is None or time.monotonic() - since < watched:
            asked = time.monotonic()
            assert asked - since < watched + PATIENCE, f"in etcd stands {self.entries()}, wanted is {wanted}"
            if self.incarnations() != sorted(wanted):
                complete = None
            elif complete is None:
                complete = asked
            time.sleep(0.2)
        return complete - since

    # ── judging ──

    def settle(self, workers: int = 3) -> list[int]:
        """Wait until so many workers are registered and known; their incarnations."""

        def settled() -> bool:
            known = sorted(self.now_known().values())
            return len(known) == workers and self.incarnations() == known

        self.until(settled)
        return sorted(self.now_known().values())

    @contextmanager
    def case(self, name: str) -> Generator[Case]:
        """Judge what happens to the calls meanwhile: none may fail, but those that a victim had taken."""
        case = Case()
        since = time.monotonic()
        yield case
        case.verdict = verdict = self.verdict(since, case.victims)
        self.results.add(name, verdict, case.registered, case.note)
        assert not verdict.failed, verdict.complaint()
        assert not verdict.twice
        assert case.registered is None or case.registered <= SOON
        ended = [process for process in [self.traffic, *self.workers] if process.poll() is not None]
        assert not ended, "\n".join(map(self.logged, ended))

    def fresh_worker(self) -> subprocess.Popen[str]:
        """One more worker, once the frontend knows it."""
        former = set(self.now_known().values())
        worker = self.worker()
        self.until(lambda: set(self.now_known().values()) - former)
        return worker
