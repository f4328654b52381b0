"""Writes what the programs print on Dynamo, and what its signatures are, from its wheels.

PYTHONPATH=tests .venv/bin/python -m dynamo.record [PROGRAM …]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from interop.venvs import interpreter

from . import running, signatures
from .stage import place


def record(name: str) -> None:
    version = running.version(name)
    with tempfile.TemporaryDirectory() as folder, place(version, Path(folder)) as env:
        dynamo = running.Side(interpreter(version))
        text = running.run(name, Path(folder), workers=dynamo, client=dynamo, env=env)
    running.expected(name).write_text(text)
    print(f"{name}: {len(text.splitlines())} lines from Dynamo {version}")


if __name__ == "__main__":
    for name in sys.argv[1:] or running.NAMES:
        record(name)
    if not sys.argv[1:]:
        signatures.write(interpreter("1.6.1"))
