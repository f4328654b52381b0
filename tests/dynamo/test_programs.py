"""Programs written for Dynamo print here, with their import lines changed, what they print there."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import running
from .running import OURS

pytestmark = pytest.mark.system


@pytest.mark.parametrize("name", running.NAMES)
def test_a_program_prints_what_it_printed_on_dynamo(name: str, tmp_path: Path) -> None:
    assert running.run(name, tmp_path, workers=OURS, client=OURS) == running.expected(name).read_text()


def test_only_import_lines_are_changed() -> None:
    for name in running.NAMES:
        before, after = running.source(name).splitlines(), running.ported(name).splitlines()
        changed = [line for line, other in zip(before, after, strict=True) if line != other]
        assert changed
        assert all(line.startswith("from dynamo.") for line in changed)
