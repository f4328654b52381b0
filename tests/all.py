"""Every test, the slow ones too, and one last table of what ran.

    python tests/all.py [--write FILE] [PYTEST'S OWN ARGUMENTS]

The table says what passed, what was left out and why, and what the long tests measured.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

_OUTCOMES = ("passed", "failed", "skipped")


class Table:
    """A pytest plugin that keeps count."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._seconds: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._notes: list[tuple[str, str]] = []
        self._failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        area = _area(report.nodeid)
        self._seconds[area] += report.duration  # type: ignore[assignment]
        if report.when == "call" or report.outcome != "passed":
            self._outcomes[area][report.outcome] += 1
        if report.failed:
            self._failed.append(report.nodeid)
        if report.skipped:
            self._reasons[_reason(report)] += 1
        if report.when == "call":
            test = report.nodeid.rpartition("::")[2]
            own = [(name, value) for name, value in report.user_properties if name != "reqplane_conformance"]
            self._notes += [(f"{test}: {name}", str(value)) for name, value in own]

    def text(self) -> str:
        """All of it as Markdown."""
        parts = (self._head(), self._areas(), self._which(), self._left_out(), self._measured())
        return "\n".join(line for part in parts for line in part)

    def _head(self) -> Iterator[str]:
        total = sum(self._outcomes.values(), Counter[str]())
        counts = ", ".join(f"{total[outcome]} {outcome}" for outcome in _OUTCOMES)
        yield "# All tests"
        yield ""
        yield f"{datetime.date.today().isoformat()}, Python {platform.python_version()},"
        yield f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores,"
        yield f"{time.monotonic() - self._begin:.0f} s: {counts}."
        yield ""

    def _areas(self) -> Iterator[str]:
        yield "| area | passed | failed | skipped | seconds |"
        yield "| --- | ---: | ---: | ---: | ---: |"
        for area, outcomes in sorted(self._outcomes.items()):
            counts = " | ".join(str(outcomes[outcome]) for outcome in _OUTCOMES)
            yield f"| {area} | {counts} | {self._seconds[area]:.0f} |"
        yield ""

    def _which(self) -> Iterator[str]:
        if self._failed:
            yield from (f"- FAILED: {test}" for test in self._failed)
            yield ""

    def _left_out(self) -> Iterator[str]:
        if self._reasons:
            yield "| skipped | because |"
            yield "| ---: | --- |"
            for reason, count in self._reasons.most_common():
                yield f"| {count} | {reason} |"
        else:
            yield "Nothing was skipped."
        yield ""

    def _measured(self) -> Iterator[str]:
        for title, value in self._notes:
            yield f"**{title}**" if "\n" in value else f"- {title}: {value}"
            if "\n" in value:
                yield f"\n{value}\n"


def _area(nodeid: str) -> str:
    """The folder of tests that a test belongs to."""
    path = nodeid.partition("::")[0].split("/")
    return "/".join(path[:2]) if len(path) > 2 else path[0]


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return getattr(report, "wasxfail", "") or "no reason given"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table there too")
    options, arguments = parser.parse_known_args()
    table = Table()
    status = pytest.main(["-m", "", *arguments], plugins=[table])
    print(f"\n{table.text()}")
    if options.write is not None:
        options.write.write_text(f"{table.text()}\n")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
