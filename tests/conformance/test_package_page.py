"""What the package's page shows works as it stands there."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

from pages import Page
from reqplane_conformance.memory import Network

PAGE = Page((Path(__file__).parent / "README.md").read_text())


def test_the_double_serves_a_test(tmp_path: Path):
    PAGE.write(tmp_path, "test_retries.py")
    command = [sys.executable, "-m", "pytest", "-q", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_what_disturbs_the_double_is_all_there():
    told = set(re.findall(r"^\| `network\(\)\.(\w+)", PAGE.text, re.MULTILINE)) | {"thaw"}
    (disturbing,) = re.findall(r"# ── disturbing it ──(.*?)# ──", inspect.getsource(Network), re.DOTALL)
    there = set(re.findall(r"^    def ([a-z]\w*)", disturbing, re.MULTILINE))
    assert told == there | {"delay"}
