"""What the three conformance classes have in common: their cases, and that nobody changes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest
from reqplane.interfaces import Discovery, RequestTransport, ResponseTransport
from reqplane.plugins import DISCOVERY, REQUEST_PLANE, RESPONSE

from reqplane_conformance.case import Case, is_case, name_case, test_case
from reqplane_conformance.options import strain_of, subject_of
from reqplane_conformance.stage import Stage

_KINDS: Mapping[str, type[Any]] = {
    REQUEST_PLANE.what: RequestTransport,
    RESPONSE.what: ResponseTransport,
    DISCOVERY.what: Discovery,
}


class Conformance:
    """A suite of cases.  A subclass names its subject; pytest runs the cases that it inherits."""

    kind: ClassVar[str] = ""
    """What its subjects are: "request plane", "response plane" or "discovery backend"."""
    subject_name: ClassVar[str] = ""
    """The attribute that a subclass sets."""
    group: ClassVar[str] = ""
    stage_class: ClassVar[type[Stage]] = Stage
    cases: ClassVar[Mapping[str, Any]] = {}
    """The suite's functions by their names, in the order of the table."""

    env: Mapping[str, str] = {}
    """Variables that the subject finds set, beside those of its `loopback`: where its server is, say."""

    def __init_subclass__(cls, *, suite: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        if suite:
            cls._take_in()
        else:
            if "cases" in vars(cls):
                raise TypeError(f"{cls.__qualname__} sets `cases`, which is the suite's own table")
            cls.check_unchanged()
            cls._check_subject()

    @classmethod
    def _take_in(cls) -> None:
        """Name the cases that stand in this class, behind those of its bases."""
        taken: dict[str, Any] = {}
        for base in reversed(cls.__bases__):  # as pytest runs them
            its: Mapping[str, Any] = getattr(base, "cases", {})
            if twice := taken.keys() & its.keys():
                raise TypeError(
                    f"two groups of cases have {', '.join(sorted(twice))}: one would hide the other"
                )
            taken |= its
        for name, member in list(vars(cls).items()):
            if name in taken:
                raise TypeError(f"{cls.__qualname__} overrides {test_case(taken[name]).id}")
            if is_case(member):
                name_case(cls.group, name, member)
                taken[name] = member
        cls.cases = taken

    @classmethod
    def check_unchanged(cls) -> None:
        """TypeError if a case is not the suite's own any more."""
        changed = [
            test_case(case).id for name, case in cls.cases.items() if getattr(cls, name, None) is not case
        ]
        if changed:
            raise TypeError(
                f"{cls.__qualname__} overrides or deletes {', '.join(changed)}: the cases of a conformance "
                f"class can't be changed.  What your {cls.kind} does not promise, leave out of its "
                f"`capabilities`; put tests of your own under other names"
            )

    @classmethod
    def _check_subject(cls) -> None:
        """TypeError if what is to be tried is no class, or one of another kind."""
        subject = getattr(cls, cls.subject_name, None)
        if subject is None:
            return
        where = f"{cls.__qualname__}.{cls.subject_name} is {subject!r}"
        if not isinstance(subject, type):
            raise TypeError(f"{where}: wanted the class that is to be tried")
        its = [kind for kind, base in _KINDS.items() if issubclass(subject, base)]
        if its and cls.kind not in its:
            raise TypeError(f"{where}, a {its[0]}: this suite is for a {cls.kind}")

    @classmethod
    def all_cases(cls) -> Iterator[Case]:
        """In the order of the table."""
        return map(test_case, cls.cases.values())

    @pytest.fixture
    def stage(self, request: pytest.FixtureRequest) -> Stage:
        """What a case acts on."""
        subject = getattr(self, self.subject_name, None) or subject_of(request.config, self.kind)
        stage = self.stage_class(subject, self, self.env, strain_of(request.config))
        stage.restart_command = request.config.getoption("--restart-peer") or ""
        stage.put_command = request.config.getoption("--put-record") or ""
        return stage
