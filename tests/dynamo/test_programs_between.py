"""A program's worker on Dynamo and its client on us, and the other way round: they print the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import running
from .running import OURS, Side
from .wheel import interpreter_or_skip

TODAYS = [name for name in running.NAMES if running.version(name) == "1.6.1"]

pytestmark = pytest.mark.system


@pytest.mark.parametrize("name", TODAYS)
def test_dynamos_worker_and_our_client(name: str, tmp_path: Path) -> None:
    dynamo = Side(interpreter_or_skip("1.6.1"))
    printed = running.run(name, tmp_path, workers=dynamo, client=OURS)
    assert printed == running.expected(name).read_text()


@pytest.mark.parametrize("name", TODAYS)
def test_our_worker_and_dynamos_client(name: str, tmp_path: Path) -> None:
    dynamo = Side(interpreter_or_skip("1.6.1"))
    printed = running.run(name, tmp_path, workers=OURS, client=dynamo)
    assert printed == running.expected(name).read_text()
