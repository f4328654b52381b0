"""What a case is, and how an `async def` becomes one.

A case is a method of a conformance class, marked with `@case`.  pytest sees a plain function, which runs
the coroutine by `running.run_case`: on an event loop of its own, with a deadline, and with a look at what
was left over.  So no asyncio plugin of pytest has a say in it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from reqplane_conformance.stage import Stage

Body = Callable[..., Coroutine[Any, Any, None]]


class SetAside(pytest.skip.Exception):
    """A case has nothing to do with its subject.  Only cases say so: other ways to skip one do not count."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    `id` is `group.name` and stays what it is from version to version.  `needs` are the capabilities
    without which it does not apply; none: it is a base case.  `within` is its deadline in seconds on an
    idle machine.  `priority`: of several failures the one with the smallest is told first, because it
    explains the others.
    """

    id: str
    sentence: str
    needs: tuple[str, ...]
    within: float
    priority: int
    runs: int = 1
    """How often it runs: once for each set of its parameters."""

    @property
    def group(self) -> str:
        return self.id.partition(".")[0]


@dataclass(frozen=True, slots=True)
class _Mark:
    needs: tuple[str, ...]
    within: float
    priority: int


def case(*, needs: tuple[str, ...] = (), within: float = 15.0, priority: int = 5) -> Callable[[Body], Any]:
    """Make a case of a coroutine method that takes a stage; its docstring is the sentence it stands for."""

    def mark(body: Body) -> Callable[..., None]:
        @functools.wraps(body)
        def test(self: Any, stage: Stage, **parameters: Any) -> None:
            __tracebackhide__ = True
            stage.run(test_case(test), functools.partial(body, self, stage, **parameters))

        test.conformance_mark = _Mark(needs, within, priority)  # type: ignore[attr-defined]
        return test

    return mark


def is_case(member: object) -> bool:
    return hasattr(member, "conformance_mark")


def name_case(group: str, name: str, test: Any) -> None:
    """Give a marked function its id, once the class that it stands in is known."""
    mark: _Mark = test.conformance_mark
    case_id = f"{group}.{name.removeprefix('test_')}"
    sentence = " ".join((test.__doc__ or "").split())
    if not sentence.endswith("."):
        raise TypeError(f"{case_id} needs one sentence as its docstring")
    test.conformance_case = Case(case_id, sentence, mark.needs, mark.within, mark.priority, _runs(test))


def _runs(test: Any) -> int:
    marks: Any = getattr(test, "pytestmark", ())
    return math.prod(len(mark.args[1]) for mark in marks if mark.name == "parametrize")


def test_case(test: Any) -> Case:
    """The case that a test function is."""
    found: Case = test.conformance_case
    return found


test_case.__test__ = False  # type: ignore[attr-defined]
