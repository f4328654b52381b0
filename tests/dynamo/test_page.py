"""docs/dynamo-programs.md says what there is, and its program runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pages import Page
from reqplane.dynamo import RouterMode

from .missing import is_missing
from .running import PATIENCE, PROGRAMS, Side
from .signatures import kept
from .test_signatures import found

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "dynamo-programs.md").read_text()
PAGE = Page(TEXT)
KEPT = kept()
ROWS = re.findall(r"^\| `(\w+)` \| (.*?) ?\| ?(.*?) ?\|$", PAGE.section("What there is"), re.MULTILINE)


@pytest.mark.parametrize(("cls", "works", "not_supported"), ROWS, ids=[row[0] for row in ROWS])
def test_the_table_has_every_name_in_its_place(cls: str, works: str, not_supported: str) -> None:
    names = set(KEPT[cls]) - {"__init__"}
    assert names == {*re.findall(r"\w+", works), *re.findall(r"\w+", not_supported)}
    assert set(re.findall(r"\w+", not_supported)) == {name for name in names if unsupported(cls, name)}


def unsupported(cls: str, name: str) -> bool:
    if cls != "RouterMode":
        return is_missing(found(cls), name)
    try:
        return not RouterMode[name].policy
    except NotImplementedError:
        return True


def test_the_table_has_every_class() -> None:
    in_text = {"PyAsyncRequestStream", "", *(name for name, members in KEPT.items() if "bases" in members)}
    assert {row[0] for row in ROWS} == set(KEPT) - in_text
    assert all(f"`{name}`" in TEXT for name in KEPT[""])


def test_it_has_as_many_programs_as_there_are() -> None:
    assert len(list(PROGRAMS.glob("*.py"))) == 13
    assert "has thirteen programs" in TEXT


@pytest.mark.system
def test_its_program_runs(tmp_path: Path) -> None:
    PAGE.write(tmp_path, "hello.py")
    env = Side().environment(tmp_path)
    shell = PAGE.under("Programs written for Dynamo", "sh")[0]
    assert {
        f"DYN_{name}" in shell for name in ("REQUEST_PLANE=tcp", "DISCOVERY_BACKEND=file", "FILE_KV=")
    } == {True}
    command = [sys.executable, tmp_path / "hello.py"]
    worker = subprocess.Popen([*command, "worker"], env=env, stderr=subprocess.DEVNULL)
    try:
        told = subprocess.run(
            [*command, "client"], env=env, capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        assert told.stdout == "Hello world!\nHello sun!\nHello moon!\n"
    finally:
        os.kill(worker.pid, signal.SIGTERM)
        worker.wait(PATIENCE)
