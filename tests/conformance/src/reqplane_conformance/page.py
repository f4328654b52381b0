"""The tables of a page about the suite, made from the suite: every case, every hook, every option.

    python -m reqplane_conformance.page FILE

writes them anew between the markers that are in the file.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, cast

import reqplane_conformance
from reqplane_conformance.options import add_options
from reqplane_conformance.suite import Conformance

_MARKERS = re.compile(r"(<!-- begin: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def suites() -> list[type[Conformance]]:
    """The conformance classes that there are."""
    exported = [getattr(reqplane_conformance, name) for name in reqplane_conformance.__all__]
    return [one for one in exported if issubclass(one, Conformance)]


def rewritten(text: str) -> str:
    """The page with its tables as they have to be; KeyError for a marker that nobody knows."""
    tables = {"cases": _cases, "hooks": _hooks, "options": _options}

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
        for name, said in _members(cls):
            yield _row(f"`{cls.__name__}`", f"`{name}`", _first_sentence(said))


def _members(cls: type[Conformance]) -> Iterator[tuple[str, str]]:
    """What the author of a subclass may set or override, and what is said of it: whatever is no case."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Conformance) and base is not Conformance:
            found |= dict(_documented(base))
    return ((name, said) for name, said in found.items() if name not in cls.cases)


def _documented(cls: type[Any]) -> Iterator[tuple[str, str]]:
    """The public members that have a docstring; that of an attribute stands behind it."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    for member, after in itertools.pairwise([*tree.body, ast.Pass()]):
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
            name, said = member.name, ast.get_docstring(member)
        elif isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
            name, said = member.target.id, _text_of(after)
        else:
            continue
        if said and not name.startswith("_"):
            yield name, said


def _text_of(statement: ast.stmt) -> str | None:
    """What a bare string says."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return str(statement.value.value)
    return None


def _first_sentence(said: str) -> str:
    return " ".join(said.split()).partition(". ")[0].removesuffix(".")


def _options() -> Iterator[str]:
    yield from _table("option", "meaning")
    for name, attributes in Options().found:
        value = attributes.get("metavar") or "{" + ",".join(attributes["choices"]) + "}"
        yield _row(f"`{name} {value}`", attributes["help"])


class Options:
    """Stands in for pytest's parser, to find out which options there are."""

    def __init__(self) -> None:
        self.found: list[tuple[str, Any]] = []
        add_options(cast(Any, self))

    def getgroup(self, name: str) -> Self:
        return self

    def addoption(self, name: str, **attributes: Any) -> None:
        self.found.append((name, attributes))


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
