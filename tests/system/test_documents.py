"""What docs/settings.md and docs/errors.md say is what the code does."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from pages import Page
from reqplane import errors
from reqplane.discovery.entries import StaticSettings
from reqplane.discovery.etcd.settings import EtcdSettings
from reqplane.dynamo.environment import DynamoSettings
from reqplane.settings import FileSettings, Settings
from reqplane_http.settings import HttpSettings
from reqplane_nats.settings import NatsSettings
from reqplane_tcp.settings import TcpSettings
from reqplane_tcp_stream.settings import TcpStreamSettings

ROOT = Path(__file__).parent.parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
    ROOT / "tests" / "conformance" / "README.md",
]
VARIABLE = re.compile(r"\bDYN_[A-Z0-9_]*[A-Z0-9]\b")
SETTINGS = (
    Settings,
    FileSettings,
    EtcdSettings,
    StaticSettings,
    DynamoSettings,
    HttpSettings,
    NatsSettings,
    TcpSettings,
    TcpStreamSettings,
)
ERRORS = {
    name
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.ReqplaneError) and not name.startswith("_")
}
SETTINGS_PAGE = (ROOT / "docs" / "settings.md").read_text()
ERRORS_PAGE = (ROOT / "docs" / "errors.md").read_text()


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ── settings ────────────────────────────────────────────────────────────────────────────────────────


def fields(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """A settings class's fields by their variables."""
    return {field.metadata["variable"]: field for field in dataclasses.fields(cls)}


def variables() -> dict[str, dataclasses.Field[Any]]:
    return {name: field for cls in SETTINGS for name, field in fields(cls).items()}


def rows(text: str) -> dict[str, list[str]]:
    """The rows of all tables of settings: by variable, the other cells."""
    lines = [line for line in text.splitlines() if re.match(r"\| `[A-Z0-9_]+` \|", line)]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first.strip("`"): rest for first, *rest in cells}


def says_default(cell: str, field: dataclasses.Field[Any]) -> bool:
    """Whether a cell that is code reads as the default; words describe what is worked out later."""
    if re.fullmatch("`[^`]+`", cell):
        return field.metadata["parse"](cell.strip("`")) == field.default
    return field.default in ("", None, ())


def test_the_tables_have_every_setting_and_no_other():
    assert set(rows(SETTINGS_PAGE)) == set(variables())


@pytest.mark.parametrize("path", PAGES, ids=shown)
def test_no_variable_is_mentioned_that_nothing_reads(path: Path):
    mentioned = set(VARIABLE.findall(path.read_text()))
    assert mentioned - set(variables()) <= read_beside(path)


def read_beside(path: Path) -> set[str]:
    """What the sources of a plugin that is an example read."""
    sources = path.parent.glob("src/**/*.py") if path.parent.parent.name == "examples" else []
    return {name for source in sources for name in VARIABLE.findall(source.read_text())}


@pytest.mark.parametrize("variable", variables())
def test_the_tables_have_its_default(variable: str):
    cell, field = rows(SETTINGS_PAGE)[variable][0], variables()[variable]
    assert says_default(cell, field), f"the table says {cell}, the code {field.default!r}"


@pytest.mark.parametrize("variable", variables())
def test_the_tables_have_its_unit(variable: str):
    parse, unit = variables()[variable].metadata["parse"].__name__, rows(SETTINGS_PAGE)[variable][1]
    wanted = {"seconds": "seconds", "seconds_or_off": "seconds", "port": "port", "names": "names"}
    assert unit == wanted.get(parse, unit)
    assert unit


@pytest.mark.parametrize(
    ("folder", "cls"),
    [
        ("plugins/http", HttpSettings),
        ("plugins/nats", NatsSettings),
        ("plugins/tcp", TcpSettings),
        ("plugins/tcp_stream", TcpStreamSettings),
    ],
)
def test_a_package_page_has_its_own_settings(folder: str, cls: type[Any]):
    table = rows((ROOT / folder / "README.md").read_text())
    assert set(table) == set(fields(cls))
    for variable, field in fields(cls).items():
        assert says_default(table[variable][0], field)


# ── bounds ──────────────────────────────────────────────────────────────────────────────────────────


BOUNDS = re.findall(r"^\| .+ \| ([\d ]+)( KiB| s|) \| `([\w.]+)` `([\w.]+)` \|$", SETTINGS_PAGE, re.MULTILINE)


@pytest.mark.parametrize(("number", "unit", "module", "name"), BOUNDS, ids=[row[3] for row in BOUNDS])
def test_a_bound_is_what_the_code_has(number: str, unit: str, module: str, name: str):
    found: Any = importlib.import_module(module)
    if name.startswith("Limits."):
        found, name = found.Limits(), name.removeprefix("Limits.")
    scale = {" KiB": 1024, " s": 1, "": 1}[unit]
    assert getattr(found, name) == int(number.replace(" ", "")) * scale


def test_the_table_of_bounds_is_read_whole():
    table = SETTINGS_PAGE.partition("| what | at most | constant |\n| --- | --- | --- |\n")[2]
    assert len(BOUNDS) == len(table.strip().splitlines())


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────


def test_every_error_has_its_heading_and_every_heading_its_error():
    assert sorted(re.findall(r"^## (.+)$", ERRORS_PAGE, re.MULTILINE)) == sorted(ERRORS)


def test_every_error_has_its_meaning_and_its_remedy():
    for part in ERRORS_PAGE.split("\n## ")[1:]:
        assert "\n**Meaning:** " in part
        assert "\n**What to do:** " in part


def test_the_tree_is_the_tree_of_classes():
    (tree,) = Page(ERRORS_PAGE).under("Errors", "text")
    parents: list[str] = []
    drawn: dict[str, str] = {}
    for line in tree.splitlines():
        indent, name = re.match(r"([│├└─ ]*)(\w+)", line).groups()  # type: ignore[union-attr]
        parents[len(indent) // 4 :] = [name]
        drawn[name] = parents[-2] if indent else "Exception"
    assert drawn == {name: _parent(getattr(errors, name)) for name in ERRORS}


def _parent(cls: type[Any]) -> str:
    """The nearest class above it that is not private."""
    return next(base.__name__ for base in cls.__mro__[1:] if not base.__name__.startswith("_"))


def test_the_classes_that_the_readme_speaks_of_exist():
    text = (ROOT / "README.md").read_text().partition("## Errors\n")[2].partition("\n## ")[0]
    named = {name for name in re.findall(r"`([A-Z][a-z]+[A-Z][a-z]+)`", text)}
    assert len(named) > 4
    assert named <= ERRORS


# ── links ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", PAGES, ids=shown)
def test_links_lead_somewhere(path: Path):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", path.read_text()):
        found = (path.parent / target) if target else path
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert anchor in slugs | set(headings)
