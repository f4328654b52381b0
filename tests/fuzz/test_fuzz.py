"""Fuzzing itself, by atheris: every target for its share of a minute."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz.targets import TARGETS

SECONDS = 60
"""For all targets together."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None,
        reason="atheris is not installed; make test-all installs it where there is a wheel",
    ),
]


@pytest.mark.parametrize("target", TARGETS)
def test_fuzzing_finds_nothing(target: str, record_property: Callable[[str, object], None]) -> None:
    share = max(SECONDS // len(TARGETS), 1)
    run = Path(__file__).parent / "run.py"
    process = subprocess.run(
        [sys.executable, str(run), "--seconds", str(share), target],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=share + 40,
    )
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-4000:]
    executed = re.search(r"number_of_executed_units: (\d+)", process.stderr)
    assert executed is not None
    record_property("inputs", executed[1])
    assert int(executed[1]) > 100, "fuzzing hardly ran"
