"""docs/write-a-transport.md, followed to the letter, in an environment that has nothing but wheels."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from installing import ROOT, Environment, build_wheels, environment
from pages import Page
from reqplane_conformance import RequestTransportConformance

TEXT = (ROOT / "docs" / "write-a-transport.md").read_text()
PAGE = Page(TEXT)
WIRE = "src/reqplane_sock/wire.py"
MISTAKES = re.findall(r"^\| (.+) \| `(\w+\.\w+)` \|$", TEXT, re.MULTILINE)
pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


@dataclass(frozen=True)
class Follower:
    """Somebody who types what the page says."""

    environment: Environment
    env: Mapping[str, str]
    project: Path

    def types(self, line: str) -> tuple[int, str]:
        """One line of the shell, in the project's folder: exit status, and what it printed."""
        done = subprocess.run(
            ["sh", "-ec", line], cwd=self.project, env=self.env, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def install(self) -> None:
        """`pip install .`, without an index."""
        wheels = self.project / "dist"
        build_wheels([self.project], wheels)
        self.environment.install("--force-reinstall", "--no-deps", str(next(wheels.glob("*.whl"))))

    def puts(self, file: str, text: str) -> None:
        (self.project / file).write_text(text)
        self.install()

    def replaces(self, file: str, old: str, new: str) -> None:
        path = self.project / file
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
        self.puts(file, text.replace(old, new))

    def claims(self) -> None:
        """Let the class begin as the page shows it."""
        block = PAGE.under("What it promises", "python")[0]
        text = (self.project / "src/reqplane_sock/transport.py").read_text()
        head = text[text.index("class SockTransport") :].partition(" = Capabilities()\n")
        self.replaces("src/reqplane_sock/transport.py", "".join(head[:2]), block)


@pytest.fixture(scope="module")
def installed(
    wheels: dict[str, Path], foreign: Path, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """What the section "Install" installs."""
    *_, line = PAGE.under("Install", "sh")[0].strip().splitlines()
    names = line.removeprefix("pip install --find-links dist ").split()
    return environment(tmp_path_factory.mktemp("environment"), [wheels["reqplane"].parent, foreign], *names)


@pytest.fixture
def follower(installed: Environment, bare: dict[str, str], tmp_path: Path) -> Iterator[Follower]:
    """At the end of the section "Start"."""
    new, cd, _, plugins = PAGE.under("Start", "sh")[0].strip().splitlines()
    env = installed.variables(bare)
    status, printed = Follower(installed, env, tmp_path).types(new)
    assert status == 0, printed
    found = Follower(installed, env, tmp_path / cd.removeprefix("cd "))
    found.install()
    try:
        assert re.search("^sock +reqplane-sock .* request plane sock$", found.types(plugins)[1], re.MULTILINE)
        yield found
    finally:
        installed.uninstall("reqplane-sock")


def final_wire() -> str:
    return PAGE.under("What it promises", "python")[1]


def first_wire() -> str:
    return PAGE.under("The two functions", "python")[0]


def test_the_table_of_files_is_what_is_written(follower: Follower):
    table = PAGE.section("Start")
    named = set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE))
    there = {
        str(path.relative_to(follower.project)) for path in follower.project.rglob("*") if path.is_file()
    }
    there = {file for file in there if not file.startswith("dist/")}
    assert named == there - {"README.md", "src/reqplane_sock/py.typed"}


def test_the_suite_says_what_is_missing(follower: Follower):
    (line,) = PAGE.under("What is missing", "sh")
    status, printed = follower.types(line)
    assert status == 1
    (shown,) = PAGE.under("What is missing", "text")
    assert shown in printed

    functions = first_wire().partition("async def serve")[0]
    unfilled = (follower.project / WIRE).read_text().partition("async def serve")[2]
    follower.puts(WIRE, f"{functions}async def serve{unfilled}")
    assert "it raised NotImplementedError: serve() in wire.py" in follower.types(line)[1]


@pytest.mark.slow
def test_the_two_functions_make_it_conform(follower: Follower):
    follower.puts(WIRE, first_wire())
    (line,) = PAGE.under("The two functions", "sh")
    status, printed = follower.types(line)
    assert status == 0, printed
    assert PAGE.under("The two functions", "text")[0] in printed


@pytest.mark.slow
def test_it_shows_what_it_claims(follower: Follower):
    """What it lacks is told; then it has it, and the report says so."""
    follower.puts(WIRE, first_wire())
    follower.claims()
    lacking, level = PAGE.under("What it promises", "text")
    (line,) = PAGE.under("What it promises", "sh")
    status, printed = follower.types(line)
    assert status == 1
    assert lacking in printed, printed
    follower.puts(WIRE, final_wire())
    (line,) = PAGE.under("The suite in your own tests", "sh")
    status, printed = follower.types(line)
    assert status == 0, printed
    assert level in printed
    (result,) = json.loads((follower.project / "report.json").read_text())["results"]
    assert (result["subject"], result["level"], result["lacking"]) == ("sock", "base", [])


def test_it_carries_calls(follower: Follower, readme: Page, processes: Any, tmp_path: Path):
    """The README's own worker and frontend use it."""
    follower.puts(WIRE, final_wire())
    follower.claims()
    env = {**follower.env, "PYTHONWARNINGS": "error::RuntimeWarning", "DYN_SOCK_HOST": "127.0.0.1"}
    env["DYN_SOCK_ADVERTISE_HOST"] = "localhost"
    export, plugins, doctor = PAGE.under("Using it", "sh")[0].strip().splitlines()
    assert "request plane sock*" in processes.run(f"{export}\n{plugins}", env, tmp_path)[1]
    readme.write(tmp_path, "worker.py", "frontend.py")
    worker = processes.start(f"{export}\npython worker.py", env, tmp_path)
    status, printed = processes.run(f"{export}\npython frontend.py", env, tmp_path)
    assert (status, printed) == (0, readme.under("A worker and a frontend", "text")[0])
    call = f"{export}\nreqplane call --instance 7 default.backend.generate 1"
    assert processes.run(call, env, tmp_path)[0] == 1
    assert processes.run(f"{export}\n{doctor}", env, tmp_path)[0] == 0
    status, printed = processes.run(f"{export}\n{doctor} default.backend.generate", env, tmp_path)
    assert status == 0, printed
    assert re.search(r"on sock at localhost:\d+: accepted after", printed)
    status, printed = processes.stop(worker)
    assert status == 0, printed
    assert "on sock, found by file" in printed
    assert "Traceback" not in printed


def test_the_doctor_hears_of_it(follower: Follower):
    (method,) = PAGE.under("The other members", "python")
    text = (follower.project / "src/reqplane_sock/transport.py").read_text()
    text = text.replace("import Mapping", "import Mapping, Sequence").replace(
        "Capabilities,", "Capabilities, Diagnosis,"
    )
    follower.puts("src/reqplane_sock/transport.py", f"{text}\n{method}")
    (said,) = re.findall(r'Diagnosis\("note", "(.+)"\)', method)
    line = "DYN_REQUEST_PLANE=sock DYN_DISCOVERY_BACKEND=file DYN_SOCK_HOST=127.0.0.1 reqplane doctor"
    assert said in follower.types(line)[1]


# ── the five usual mistakes ─────────────────────────────────────────────────────────────────────────

_ACCEPT = "        incoming.accept(endpoint, frame, headers)\n"
HOW = {
    "delivery.acks_after_accept": (
        WIRE,
        _ACCEPT,
        "        incoming.writer.write(b'[\"ok\"]\\n')\n" + _ACCEPT,
    ),
    "failure.ack_lost": ("src/reqplane_sock/transport.py", "if not connected and not", "if not"),
    "failure.frozen_worker_without_deadline": (
        "src/reqplane_sock/transport.py",
        "min(deadline, now() + _TIMEOUT)",
        "min(deadline, now() + 3600)",
    ),
    "life.nothing_left_over": (
        "src/reqplane_sock/transport.py",
        "                finally:\n",
        "                except TimeoutError:\n                    raise\n                else:\n",
    ),
    "failure.announces_too_much": (
        WIRE,
        "await incoming.read_frame(size)",
        "await incoming.reader.readexactly(size)",
    ),
}
"""How each is made of the right one: a file, the text in it, and what stands there instead."""


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for _, case in MISTAKES])
def test_a_usual_mistake_is_found_by_its_case(follower: Follower, case: str):
    follower.puts(WIRE, final_wire())
    follower.claims()
    follower.replaces(*HOW[case])
    chosen = "cancelled_send" if case == "life.nothing_left_over" else case.partition(".")[2]
    status, printed = follower.types(f"pytest -k {chosen}")
    assert status == 1, printed
    assert f"begin here: {case}" in printed


def test_there_are_five_of_them():
    assert {case for _, case in MISTAKES} == set(HOW)
    assert len(MISTAKES) == 5


# ── what else the page says ─────────────────────────────────────────────────────────────────────────


def test_the_cases_that_are_named_exist():
    ids = {case.id for case in RequestTransportConformance.all_cases()}
    groups = {one.partition(".")[0] for one in ids}
    prose = re.sub("```.*?```", "", TEXT, flags=re.DOTALL)
    named = {name for name in re.findall(r"\b\w+\.\w+\b", prose) if name.partition(".")[0] in groups}
    assert named <= ids


def test_what_need_not_be_written_is_there():
    rows = re.findall(
        r"^\| `(reqplane\.\w+)` \| (.+?) \|", PAGE.section("What you need not write"), re.MULTILINE
    )
    assert rows
    for module, names in rows:
        there = vars(importlib.import_module(module))
        assert set(re.findall(r"`(\w+)`", names)) <= set(there)


def test_the_class_form_overrides_what_there_is():
    (block,) = PAGE.under("The suite in your own tests", "python")
    (cls,) = [node for node in ast.parse(block).body if isinstance(node, ast.ClassDef)]
    names = {node.name for node in cls.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    names |= {ast.unparse(node.targets[0]) for node in cls.body if isinstance(node, ast.Assign)}
    assert all(hasattr(RequestTransportConformance, name) for name in names)
