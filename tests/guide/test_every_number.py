"""Every statement of the guide has a test, and `pytest -k guide` lists them in their order."""

from __future__ import annotations

import re
import subprocess
import sys

from .places import HERE

STATEMENTS = range(1, 56)


def test_guide_has_a_test_for_every_statement_in_order():
    root = HERE.parent.parent
    command = [sys.executable, "-m", "pytest", "-k", "guide", "--collect-only", "-q", str(HERE)]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout
    names = re.findall(r"::test_guide_((?:\d\d_)+)", listed)
    numbers = [int(number) for name in names for number in name.strip("_").split("_")]
    assert set(numbers) == set(STATEMENTS)
    first = [int(name[:2]) for name in names]
    assert first == sorted(first)
