"""What docs/conformance.md says of the suite is what the suite is."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pages import Page
from reqplane.model import Capabilities, DiscoveryCapabilities, ResponseCapabilities
from reqplane_conformance import page
from reqplane_conformance.case import Case

FILE = Path(__file__).parent.parent.parent / "docs" / "conformance.md"
TEXT = FILE.read_text()
CAPABILITIES: dict[str, Any] = {
    "request plane": Capabilities,
    "response plane": ResponseCapabilities,
    "discovery backend": DiscoveryCapabilities,
}
COMMAND = "python -m reqplane_conformance.page docs/conformance.md"


def first_columns(heading: str) -> list[list[str]]:
    """The first column of each table under a heading, without its head."""
    (section,) = re.findall(rf"^## {heading}$(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [[row.split("|")[1].strip(" `") for row in table.splitlines()[2:]] for table in tables]


def test_the_tables_are_those_of_the_suite():
    assert page.rewritten(TEXT) == TEXT, f"the suite is another one than docs/conformance.md says: {COMMAND}"
    assert COMMAND in TEXT


def test_the_command_writes_the_tables(tmp_path: Path):
    """And nothing but the tables."""
    file = tmp_path / "page.md"
    emptied = re.sub(r"(<!-- begin: \w+ -->\n).*?(<!-- end -->)", r"\1\2", TEXT, flags=re.DOTALL)
    assert emptied != TEXT
    file.write_text(emptied)
    subprocess.run([sys.executable, "-m", "reqplane_conformance.page", file], check=True)
    assert file.read_text() == TEXT


@pytest.mark.parametrize("suite", page.suites(), ids=lambda suite: suite.__name__)
def test_every_case_has_an_id_and_a_sentence_of_its_own(suite: Any):
    cases: list[Case] = list(suite.all_cases())
    assert len({case.id for case in cases}) == len(cases)
    assert len({case.sentence for case in cases}) == len(cases)
    for case in cases:
        assert re.fullmatch(r"[a-z]+\.[a-z0-9_]+", case.id)
        assert "TODO" not in case.sentence


@pytest.mark.parametrize("suite", page.suites(), ids=lambda suite: suite.__name__)
def test_every_capability_has_a_case(suite: Any):
    """Claiming what nothing shows would be free."""
    needed = {name for case in suite.all_cases() for name in case.needs}
    assert needed == {field.name for field in dataclasses.fields(CAPABILITIES[suite.kind])}


def test_tests_of_ones_own_pass(tmp_path: Path):
    mine = Page(TEXT).file("test_yours.py")
    plane = "from reqplane_http.transport import HttpTransport as YourTransport"
    (tmp_path / "test_yours.py").write_text(mine.replace("from reqplane_yours import YourTransport", plane))
    names = " or ".join(re.findall(r"def test_(\w+)", mine))
    command = [sys.executable, "-m", "pytest", "-q", "-k", names, "test_yours.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_the_levels_are_those_of_the_report():
    assert first_columns("Levels") == [["none", "base", "full"]]


def test_the_report_has_the_members_that_are_told(tmp_path: Path):
    file = tmp_path / "report.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--pyargs",
        "reqplane_conformance",
        "-k",
        "byte_for_byte",
    ]
    command += ["--transport", "http", "--conformance-report", str(file)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    report = json.loads(file.read_text())
    result = report["results"][0]
    assert first_columns("The report") == [list(report), list(result), list(result["cases"][0])]
