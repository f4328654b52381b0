"""The tables of a page about the suite, made from the suite: every case, and every hook.

    python -m reqplane_conformance.page FILE

writes them anew between the markers that are in the file.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import reqplane_conformance
from reqplane_conformance.case import is_case
from reqplane_conformance.suite import Conformance

_MARKERS = re.compile(r"(<!-- begin: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def suites() -> list[type[Conformance]]:
    """The conformance classes that there are."""
    return [getattr(reqplane_conformance, name) for name in reqplane_conformance.__all__]


def rewritten(text: str) -> str:
    """The page with its tables as they have to be; KeyError for a marker that nobody knows."""
    tables = {"cases": _cases, "hooks": _hooks}

    def anew(found: re.Match[str]) -> str:
        table = "\n".join(tables[found[2]]())
        return f"{found[1]}{table}\n{found[3]}"

    return _MARKERS.sub(anew, text)


def _cases() -> Iterator[str]:
    for cls in suites():
        cases = list(cls.all_cases())
        base = sum(not case.needs for case in cases)
        yield f"### Cases of a {cls.kind}"
        yield ""
        yield f"`{cls.__name__}`: {len(cases)} cases, of which {base} hold for every {cls.kind}."
        yield ""
        yield from _table("case", "only with", "what it shows")
        for case in cases:
            needs = ", ".join(f"`{name}`" for name in case.needs)
            yield _row(f"`{case.id}`", needs, case.sentence)
        yield ""


def _hooks() -> Iterator[str]:
    yield from _table("class", "member", "what it does")
    for cls in suites():
        for name, member in _members(cls):
            yield _row(f"`{cls.__name__}`", f"`{name}`", _first_sentence(member))


def _members(cls: type[Conformance]) -> Iterator[tuple[str, Any]]:
    """What the author of a subclass may override: its public methods that are no cases."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Conformance) and base is not Conformance:
            found |= vars(base)
    for name, member in found.items():
        if inspect.isfunction(member) and not name.startswith("_") and not is_case(member):
            yield name, member


def _first_sentence(member: Any) -> str:
    whole = " ".join((member.__doc__ or "").split())
    return whole.partition(". ")[0].removesuffix(".")


def _table(*heads: str) -> Iterator[str]:
    yield _row(*heads)
    yield _row(*("---" for _ in heads))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m reqplane_conformance.page FILE")
    file = Path(sys.argv[1])
    file.write_text(rewritten(file.read_text()))


if __name__ == "__main__":
    main()
