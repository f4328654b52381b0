"""What came out: a table with a level for each subject, and the same as JSON.

Levels: `none` while a base case or a claimed capability fails, or was not run; `base` when all of these
pass; `full` when every capability that there is was claimed, and shown.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reqplane_conformance.case import Case
from reqplane_conformance.options import chosen
from reqplane_conformance.suite import Conformance
from reqplane_conformance.verdict import OPEN, UNWRITTEN

PROPERTY = "reqplane_conformance"
_NAMES = ("reqplane", "reqplane-conformance")


def told(
    cls: type[Conformance],
    subject: type[Any],
    case: Case,
    blame: str = "",
    message: str = "",
    aside: bool = False,
) -> dict[str, Any]:
    """What goes along with a test's report, also from another process: JSON values only."""
    capabilities: Any = getattr(subject, "capabilities", None)
    claims: dict[str, bool] = {}
    if dataclasses.is_dataclass(capabilities) and not isinstance(capabilities, type):
        claims = dataclasses.asdict(capabilities)
    return {
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "kind": cls.kind,
        "subject": getattr(subject, "name", subject.__qualname__),
        "source": _source(subject),
        "capabilities": claims,
        "case": case.id,
        "blame": blame,
        "message": message,
        "aside": aside,
        "every": _every(cls),
    }


@functools.cache
def _every(cls: type[Conformance]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(one) for one in cls.all_cases()]


@functools.cache  # asked with every report, and answered by reading what each distribution holds
def _source(subject: type[Any]) -> str:
    """The distribution that the subject comes from, as far as that can be told."""
    package = subject.__module__.partition(".")[0]
    names = _distributions().get(package, ())
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(names)))


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    """Which distributions have a package; it takes a tenth of a second to look at all of them."""
    return importlib.metadata.packages_distributions()


_BAD = ("failed", "error", "xfailed", "xpassed")
_WORSE = ("not run", "aside", "passed", "skipped", *_BAD)
"""Of several runs of a case the one that is last here counts; what was set aside is told as skipped."""


_TOLD = ("outcome", "runs", "seconds", "reason", "blame", "message")
"""What the report says of each."""


@dataclass
class Outcome:
    """What became of one case, whatever number of times it ran: the worst of it."""

    outcome: str = "not run"
    seconds: float = 0.0
    reason: str = ""
    blame: str = ""
    message: str = ""
    runs: int = 0
    aside: bool = False
    _rank: int = 0

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be shown."""
        return self.outcome == "passed" or (self.outcome == "skipped" and self.aside)

    def add(self, report: pytest.TestReport, blame: str, message: str, aside: bool = False) -> None:
        self.seconds += report.duration
        self.runs += report.when != "teardown"
        if hasattr(report, "wasxfail"):  # a mark that makes failing right, or being right a failure
            outcome = "xpassed" if report.passed else "xfailed"
        elif report.when != "call" and report.failed:
            outcome = "error"
        else:  # what other plugins call otherwise, such as a run that is tried again, is no pass
            outcome = report.outcome if report.outcome in _WORSE else "failed"
        rank = _WORSE.index("aside" if aside else outcome)
        if rank > self._rank:
            self._rank, self.aside = rank, aside
            self.outcome, self.blame, self.message = outcome, blame, message
            self.reason = _reason(report) if outcome == "skipped" else ""


def _reason(report: pytest.TestReport) -> str:
    longrepr = report.longrepr
    return str(longrepr[2]).partition(": ")[2] if isinstance(longrepr, tuple) else ""


@dataclass
class Result:
    """All cases of one conformance class."""

    about: Mapping[str, Any]
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])

    @property
    def every(self) -> list[Mapping[str, Any]]:
        return self.about["every"]

    def outcome(self, case_id: str) -> Outcome:
        """What became of a case; one that did not run with each of its parameters has not passed."""
        found = self.outcomes.get(case_id, Outcome())
        wanted = next(case["runs"] for case in self.every if case["id"] == case_id)
        if found.settled and found.runs < wanted:
            reason = f"{found.runs} of its {wanted} runs"
            return dataclasses.replace(found, outcome="not run", reason=reason)
        return found

    @property
    def unclaimed(self) -> list[str]:
        return [name for name, claimed in self.about["capabilities"].items() if not claimed]

    def applies(self, case: Mapping[str, Any]) -> bool:
        """Whether the subject claims all that the case needs."""
        return not set(case["needs"]) & set(self.unclaimed)

    @property
    def lacking(self) -> list[str]:
        """The cases that apply and did not pass."""
        return [
            case["id"] for case in self.every if self.applies(case) and not self.outcome(case["id"]).settled
        ]

    @property
    def level(self) -> str:
        if self.lacking:
            return "none"
        return "base" if self.unclaimed or not self.about["capabilities"] else "full"

    def failures(self) -> list[tuple[str, str, list[str]]]:
        """What is wrong, the thing that explains the most first: (id, message, the cases that found it)."""
        order = {case["id"]: (case["priority"], place) for place, case in enumerate(self.every)}
        order |= {UNWRITTEN: (-1, 0), OPEN: (-1, 1)}
        found: dict[str, tuple[str, list[str]]] = {}
        for case in self.every:
            outcome = self.outcome(case["id"])
            if outcome.outcome in _BAD:
                message, cases = found.setdefault(outcome.blame, (outcome.message, []))
                cases.append(case["id"])
                if case["id"] == outcome.blame:
                    found[outcome.blame] = (outcome.message, cases)
                else:
                    found[outcome.blame] = (message, cases)
        ranked = sorted(found, key=lambda blame: order.get(blame, (9, 0)))
        return [(blame, *found[blame]) for blame in ranked]

    def as_json(self) -> dict[str, Any]:
        about = {name: self.about[name] for name in ("class", "kind", "subject", "source", "capabilities")}
        cases = [
            {
                "id": case["id"],
                "sentence": case["sentence"],
                "needs": case["needs"],
                **{name: getattr(self.outcome(case["id"]), name) for name in _TOLD},
            }
            for case in self.every
        ]
        return {**about, "level": self.level, "lacking": self.lacking, "cases": cases}


class Results:
    """Collects reports, prints the tables and writes the file."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.results: dict[str, Result] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        about: Any = dict(report.user_properties).get(PROPERTY)
        if about is None or (report.when != "call" and report.passed):
            return
        result = self.results.setdefault(about["class"], Result(about))
        outcome = result.outcomes.setdefault(about["case"], Outcome())
        if about["ran"]:  # and was not taken over by somebody else
            outcome.add(report, about["blame"], about["message"], about["aside"])

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """What was left out or not shown fails the run, unless the command line chose among the cases."""
        lacking = any(result.lacking for result in self.results.values())
        judged = not chosen(session.config) and not self._is_worker()
        if session.exitstatus == pytest.ExitCode.OK and lacking and judged:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if not self._is_worker():
            self._write()

    def _is_worker(self) -> bool:
        return hasattr(self._config, "workerinput")

    def _write(self) -> None:
        file = self._config.getoption("--conformance-report")
        if not file:
            return
        versions = {name: importlib.metadata.version(name) for name in _NAMES}
        report = {
            "versions": {**versions, "python": platform.python_version()},
            "strain": self._config.getoption("--conformance-strain"),
            "results": [result.as_json() for result in self.results.values()],
        }
        Path(file).write_text(json.dumps(report, indent=2) + "\n")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for result in self.results.values():
            _print(terminalreporter, result)
        if self.results and all(map(_is_told, terminalreporter.stats.get("failed", []))):
            terminalreporter.reportchars = terminalreporter.reportchars.replace("f", "")


def _is_told(report: pytest.TestReport) -> bool:
    """Whether our table has it, so that pytest's list of failures has nothing to add."""
    return PROPERTY in dict(report.user_properties)


def _print(terminal: pytest.TerminalReporter, result: Result) -> None:
    about = result.about
    source = f" of {about['source']}" if about["source"] else ""
    terminal.section(f"conformance: the {about['kind']} {about['subject']}{source}")
    for line in _table(result):
        terminal.write_line(line)
    failures = result.failures()
    for place, (blame, message, cases) in enumerate(failures):
        terminal.write_line("")
        also = [case for case in cases if case != blame]
        found = f"  (found by {', '.join(also[:4])}{' …' if len(also) > 4 else ''})" if also else ""
        terminal.write_line(f"{'begin here: ' if place == 0 else ''}{blame}{found}")
        terminal.write_line(message)
    terminal.write_line("")
    terminal.write_line(f"level: {result.level}{_why(result)}")


def _table(result: Result) -> Iterator[str]:
    """A line for each group, then one for each case that did not pass."""
    groups = dict.fromkeys(case["id"].partition(".")[0] for case in result.every)
    for group in groups:
        cases = [case for case in result.every if case["id"].startswith(f"{group}.")]
        outcomes = [result.outcome(case["id"]) for case in cases]
        counts = ", ".join(
            f"{count} {name}"
            for name in ("passed", *_BAD, "skipped", "not run")
            if (count := sum(outcome.outcome == name for outcome in outcomes))
        )
        yield f"{group:12} {counts}  ({sum(outcome.seconds for outcome in outcomes):.1f} s)"
        for case, outcome in zip(cases, outcomes, strict=True):
            if outcome.outcome not in ("passed", "not run"):
                reason = f": {outcome.reason}" if outcome.reason else ""
                yield f"    {outcome.outcome:8} {case['id']}{reason}"


def _why(result: Result) -> str:
    lacking = [case_id for case_id in result.lacking if result.outcome(case_id).outcome != "not run"]
    if result.lacking and not lacking:
        return f", because {len(result.lacking)} cases that have to pass were not run"
    if lacking:
        cases = "1 case" if len(lacking) == 1 else f"{len(lacking)} cases"
        return f", because {cases} did not pass that had to: {_some(lacking)}"
    if result.unclaimed:
        return f"; for full it lacks: {', '.join(result.unclaimed)}"
    return ""


def _some(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:5]) + (" …" if len(first) > 5 else "")
