"""What the README and docs/errors.md say is so."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from pages import Page, install
from reqplane import errors
from reqplane.discovery.entries import StaticSettings
from reqplane.settings import FileSettings, Settings
from reqplane_http.settings import HttpSettings
from reqplane_tcp_stream.settings import TcpStreamSettings

ROOT = Path(__file__).parent.parent.parent
SETTINGS = (Settings, FileSettings, StaticSettings, HttpSettings, TcpStreamSettings)
ERRORS = {
    name
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.ReqplaneError) and not name.startswith("_")
}
EXPORTS = "export DYN_REQUEST_PLANE=http DYN_DISCOVERY_BACKEND=file\n"


def fields(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """A settings class's fields by their variables."""
    return {field.metadata["variable"]: field for field in dataclasses.fields(cls)}


def rows(text: str) -> dict[str, list[str]]:
    """The rows of all tables of settings: by variable, the other cells."""
    lines = [line for line in text.splitlines() if re.match(r"\| `[A-Z0-9_]+` \|", line)]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first.strip("`"): rest for first, *rest in cells}


def variables() -> dict[str, dataclasses.Field[Any]]:
    return {name: field for cls in SETTINGS for name, field in fields(cls).items()}


def says_default(cell: str, field: dataclasses.Field[Any]) -> bool:
    """Whether a cell that is code reads as the default; words describe what is worked out later."""
    if re.fullmatch("`[^`]+`", cell):
        return field.metadata["parse"](cell.strip("`")) == field.default
    return field.default in ("", None, ())


# ── settings ────────────────────────────────────────────────────────────────────────────────────────


def test_the_tables_have_every_setting_and_no_other(readme: Page):
    assert set(rows(readme.text)) == set(variables())


def test_no_variable_is_mentioned_that_nothing_reads(readme: Page):
    for text in (readme.text, (ROOT / "docs" / "errors.md").read_text()):
        mentioned = set(re.findall(r"\bDYN_[A-Z0-9_]*[A-Z0-9]\b", text))
        assert mentioned <= set(variables())


@pytest.mark.parametrize("variable", variables())
def test_the_tables_have_its_default(readme: Page, variable: str):
    cell, field = rows(readme.text)[variable][0], variables()[variable]
    assert says_default(cell, field), f"the table says {cell}, the code {field.default!r}"


@pytest.mark.parametrize("variable", variables())
def test_the_tables_have_its_unit(readme: Page, variable: str):
    parse, unit = variables()[variable].metadata["parse"].__name__, rows(readme.text)[variable][1]
    wanted = {"seconds": "seconds", "seconds_or_off": "seconds", "port": "port", "names": "names"}
    assert unit == wanted.get(parse, unit)
    assert unit


@pytest.mark.parametrize(
    ("folder", "cls"), [("plugins/http", HttpSettings), ("plugins/tcp_stream", TcpStreamSettings)]
)
def test_a_package_page_has_its_own_settings(folder: str, cls: type[Any]):
    table = rows((ROOT / folder / "README.md").read_text())
    assert set(table) == set(fields(cls))
    for variable, field in fields(cls).items():
        assert says_default(table[variable][0], field)


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────


def test_every_error_has_its_heading_and_every_heading_its_error():
    text = (ROOT / "docs" / "errors.md").read_text()
    assert sorted(re.findall(r"^## (.+)$", text, re.MULTILINE)) == sorted(ERRORS)


def test_every_error_has_its_meaning_and_its_remedy():
    text = (ROOT / "docs" / "errors.md").read_text()
    for part in text.split("\n## ")[1:]:
        assert "\n**Meaning:** " in part
        assert "\n**What to do:** " in part


def test_the_tree_is_the_tree_of_classes(readme: Page):
    (tree,) = readme.under("Errors", "text")
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


# ── files and links ─────────────────────────────────────────────────────────────────────────────────


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", path.read_text()):
        found = (path.parent / target) if target else path
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings} | set(
                headings
            )


def test_make_has_what_is_typed(readme: Page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shell = "\n".join(block.text for block in readme.blocks if block.language == "sh")
    typed = re.findall(r"^make (.+)$", shell, re.MULTILINE) + re.findall(r"`make ([a-z -]+)`", readme.text)
    assert {target for line in typed for target in line.split()} <= targets


# ── running it ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.system
def test_the_worker_and_the_frontend_run(
    readme: Page, processes: Any, loopback: dict[str, str], tmp_path: Path
):
    readme.write(tmp_path, "worker.py", "frontend.py")
    lines = readme.start_lines()
    worker = processes.start(lines["worker.py"], loopback, tmp_path)
    status, printed = processes.run(lines["frontend.py"], loopback, tmp_path)
    assert (status, printed) == (0, readme.under("A worker and a frontend", "text")[0])
    status, printed = processes.stop(worker)
    assert status == 0, printed


@pytest.mark.system
def test_the_command_line_prints_what_is_shown(
    readme: Page, processes: Any, loopback: dict[str, str], tmp_path: Path
):
    readme.write(tmp_path, "worker.py")
    serve, calls = readme.under("The command line", "console")
    ((command, shown),) = commands(serve)
    worker = processes.start(EXPORTS + command, loopback, tmp_path)
    status = 0
    for call, wanted in commands(calls):
        if call == "echo $?":
            printed = f"{status}\n"
        else:  # in a shell of its own, for a pipe can't follow an exec
            status, printed = processes.run(f"{EXPORTS}sh -c {quoted(call)}", loopback, tmp_path)
        assert without_chance(printed) == without_chance(wanted)
    status, printed = processes.stop(worker)
    assert status == 0
    assert without_chance(printed).startswith(without_chance(shown))


def commands(console: str) -> list[tuple[str, str]]:
    """A shell session: each line that was typed, with what came."""
    parts = re.split(r"^\$ (.+)\n", console, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


def without_chance(text: str) -> str:
    """With what differs from run to run replaced: times, ages, addresses, request ids."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", "TIME", text)
    text = re.sub(r"\d+\.\d+\.\d+\.\d+:\d+", "ADDRESS", text)
    text = re.sub(r"(AGE|\d+ s) +(?=ADDRESS$|http)", "AGE ", text, flags=re.MULTILINE)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r"^ +\d+\.\d ms", "MS", text, flags=re.MULTILINE)
    return re.sub(r"\d+\.\d ms", "N ms", text)


@pytest.mark.system
def test_the_plugin_keeps_a_session_at_one_worker(
    readme: Page, processes: Any, loopback: dict[str, str], tmp_path: Path
):
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    readme.write(source, "reqplane_sticky.py", "pyproject.toml")
    install(source, site)
    readme.write(tmp_path, "worker.py")
    env = loopback | {"PYTHONPATH": str(site)}
    for _ in range(2):
        processes.start(f"{EXPORTS}python worker.py", env, tmp_path)
    listing = f"{EXPORTS}reqplane instances --json"
    while processes.run(listing, env, tmp_path)[1].count('"path"') < 2:
        pass
    _, export, call = readme.under("Writing a plugin", "sh")[0].strip().splitlines()
    answered: dict[str, set[str]] = {}
    for session in "abcabcabcdefghij":
        typed = call.replace("call", "call -v").replace('"a"', f'"{session}"')
        status, printed = processes.run(f"{EXPORTS}{export}\n{typed}", env, tmp_path)
        assert status == 0, printed
        assert printed.count('{"i": ') == 3
        answered.setdefault(session, set()).update(re.findall(r"instance (\d) by", printed))
    assert all(len(workers) == 1 for workers in answered.values())
    assert set.union(*answered.values()) == {"0", "1"}
