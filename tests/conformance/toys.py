"""Files for pytest with a suite of a few toy cases, to see what the machinery makes of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUITE = '''
import asyncio, logging, threading, time, socket
import pytest
from reqplane.model import Capabilities
from reqplane_conformance.case import case
from reqplane_conformance.stage import Stage
from reqplane_conformance.suite import Conformance
from reqplane_conformance.verdict import check, fail


class ToyStage(Stage):
    leftover_case = "toy.nothing_left_over"


class ToySuite(Conformance, suite=True):
    kind, subject_name, group, stage_class = "request plane", "transport", "toy", ToyStage
{cases}


class Toy:
    """A transport that is opened and closed, and no more."""

    name = "toy"
    capabilities = Capabilities({capabilities})

    @classmethod
    async def open(cls, host):
        return cls()

    async def aclose(self):
        pass


class TestToy(ToySuite):
    transport = Toy
{more}
'''

RIGHT = '''
    @case()
    async def test_right(self, stage):
        """It is right."""
        await stage.open()
'''


@dataclass(frozen=True)
class Run:
    """One run of pytest."""

    status: int
    printed: str
    report: dict[str, Any]

    @property
    def result(self) -> dict[str, Any]:
        (result,) = self.report["results"]
        return result

    @property
    def outcomes(self) -> dict[str, str]:
        return {case["id"]: case["outcome"] for case in self.result["cases"]}


def pytest_run(folder: Path, *arguments: str, by_entry_point: bool = False) -> Run:
    """pytest in a process of its own, which knows nothing of this repository's configuration.

    Without the plugins of others, which take longer to load than a toy to run.
    """
    report = folder / "report.json"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--conformance-report", str(report)]
    env = dict(os.environ)
    if not by_entry_point:
        command += ["-p", "reqplane_conformance.plugin"]
        env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(
        [*command, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=50
    )
    found = json.loads(report.read_text()) if report.exists() else {}
    return Run(done.returncode, done.stdout + done.stderr, found)


def toy_run(
    folder: Path, cases: str, *arguments: str, capabilities: str = "", more: str = "", conftest: str = ""
) -> Run:
    """Run these cases against the toy."""
    text = SUITE.replace("{cases}", cases).replace("{capabilities}", capabilities).replace("{more}", more)
    (folder / "test_toy.py").write_text(text)
    (folder / "conftest.py").write_text(conftest)
    return pytest_run(folder, *arguments)
