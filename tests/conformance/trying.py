"""Runs a conformance class within a test, and says what it found: how the suite is held to its promises.

    class TestDrops(RequestTransportConformance):
        transport = DropsHeaders

    found = tried(TestDrops)
    found.first, found.message, found.failed, found.level

Each case runs as pytest runs it, parameters one by one, without a pytest session of its own.
"""

from __future__ import annotations

import gc
import itertools
import sys
import time
import warnings
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from reqplane_conformance.case import SetAside, test_case
from reqplane_conformance.report import Outcome, Result, told
from reqplane_conformance.strain import Strain
from reqplane_conformance.suite import Conformance
from reqplane_conformance.verdict import Nonconformance

_BAD = ("failed", "error")


@dataclass(frozen=True)
class Found:
    """What a run of the suite came to."""

    result: Result

    @property
    def level(self) -> str:
        return self.result.level

    @property
    def failed(self) -> set[str]:
        """The ids of the cases that failed."""
        return {case_id for case_id, outcome in self.result.outcomes.items() if outcome.outcome in _BAD}

    @property
    def blamed(self) -> set[str]:
        """The ids that the suite's author is told about: a case may find what another one is about."""
        return {blame for blame, _, _ in self.result.failures()}

    @property
    def skipped(self) -> dict[str, str]:
        """The ids of the cases that were left out, and why."""
        outcomes = self.result.outcomes.items()
        return {case_id: outcome.reason for case_id, outcome in outcomes if outcome.outcome == "skipped"}

    @property
    def first(self) -> str:
        """The id that is told first; "" if nothing is wrong."""
        failures = self.result.failures()
        return failures[0][0] if failures else ""

    @property
    def message(self) -> str:
        """What is told first."""
        failures = self.result.failures()
        return failures[0][1] if failures else ""

    def told(self) -> str:
        """All of it, for people."""
        return "\n".join(
            f"{blame}  (found by {', '.join(cases)})\n{text}" for blame, text, cases in self.result.failures()
        )


def tried(cls: type[Conformance], *, only: Collection[str] = (), strain: str = "none") -> Found:
    """Run the suite on a conformance class that names its subject; `only` those cases, if it says which."""
    subject = getattr(cls, cls.subject_name)
    result = Result({})
    with _quiet(), Strain(strain).applied():
        for test in cls.cases.values():
            case = test_case(test)
            if only and case.id not in only:
                continue
            outcome = result.outcomes.setdefault(case.id, Outcome())
            for parameters in _parameters(test):
                blame, report, aside = _run(cls(), subject, test, parameters, Strain(strain))
                outcome.add(report, blame, str(report.longrepr or ""), aside)
            result.about = told(cls, subject, case)
    return Found(result)


def _run(
    suite: Any, subject: type[Any], test: Any, parameters: dict[str, Any], strain: Strain
) -> tuple[str, pytest.TestReport, bool]:
    """One run of one case: the case to blame, the report that pytest would have made, and whether it was set
    aside."""
    case = test_case(test)
    stage = suite.stage_class(subject, suite, suite.env, strain)
    blame, outcome, said, aside = case.id, "passed", "", False
    longrepr: Any = None
    start = time.perf_counter()
    try:
        test(suite, stage, **parameters)
    except pytest.skip.Exception as reason:
        outcome, longrepr = "skipped", (__file__, 0, f"Skipped: {reason}")
        aside = isinstance(reason, SetAside)
    except Nonconformance as error:
        outcome, blame, said = "failed", error.blame or case.id, error.text()
    except Exception as error:
        outcome, said = "failed", f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    report = pytest.TestReport(
        case.id, (__file__, 0, case.id), {}, outcome, longrepr or said or None, "call", duration=seconds
    )  # type: ignore[arg-type]
    return blame, report, aside


def _parameters(test: Any) -> Iterator[dict[str, Any]]:
    """The arguments of each run of a case, from its marks `parametrize`."""
    choices: list[list[dict[str, Any]]] = []
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "parametrize":
            names = mark.args[0]
            names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
            choices.append([_bound(names, value) for value in mark.args[1]])
    for chosen in itertools.product(*choices):
        yield {name: value for part in chosen for name, value in part.items()}


def _bound(names: list[str], value: Any) -> dict[str, Any]:
    values = getattr(value, "values", None) if type(value).__name__ == "ParameterSet" else None
    if values is None:
        values = value if len(names) > 1 else (value,)
    return dict(zip(names, values, strict=True))


@contextmanager
def _quiet() -> Generator[None]:
    """What a wrong subject leaves to the garbage collector is no concern of the test that runs it."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
            gc.collect()
    finally:
        sys.unraisablehook = before


def check_wrong(
    cls: type[Conformance],
    meant: str,
    also: Collection[str] = (),
    *,
    perhaps: Collection[str] = (),
    only: Collection[str] = (),
) -> Found:
    """AssertionError unless the case that is meant for a wrong subject fails and is told first.

    Only those others may fail that the table says: `also` always, `perhaps` sometimes.  `only` these are run.
    """
    found = tried(cls, only=only)
    _check(found, meant, found.failed, also, perhaps)
    return found


def check_told(
    cls: type[Conformance], meant: str, also: Collection[str] = (), *, perhaps: Collection[str] = ()
) -> Found:
    """Likewise, where the table says what is told besides, and not which cases have found it."""
    found = tried(cls)
    _check(found, meant, found.blamed, also, perhaps)
    return found


def _check(found: Found, meant: str, got: set[str], also: Collection[str], perhaps: Collection[str]) -> None:
    assert found.level == "none", "a wrong subject passed"
    assert found.first == meant, f"wanted {meant} first, got {found.first or 'nothing'}:\n{found.told()}"
    assert meant in found.failed, f"{meant} is blamed, and did not fail itself:\n{found.told()}"
    others = got - {meant}
    assert set(also) <= others <= {*also, *perhaps}, (
        f"beside {meant}, wanted {sorted(also)}, got {sorted(others)}:\n{found.told()}"
    )
