"""What is kept of each program is what it prints on Dynamo, run again where the wheel can be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import running
from .running import Side
from .stage import place
from .wheel import interpreter_or_skip

pytestmark = pytest.mark.system

TRIES = 3
"""A worker of Dynamo's that leaves fails callers of its own now and then, before their answers have begun."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[] if running.version(name) == "1.6.1" else pytest.mark.slow
        )  # it wants servers
        for name in running.NAMES
    ],
)
def test_a_program_prints_on_dynamo_what_is_kept_of_it(name: str, tmp_path: Path) -> None:
    dynamo = Side(interpreter_or_skip(running.version(name)))
    kept, printed = running.expected(name).read_text(), ""
    for attempt in range(TRIES):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with place(running.version(name), folder) as env:
            printed = running.run(name, folder, workers=dynamo, client=dynamo, env=env)
        if printed == kept:
            break
    assert printed == kept
