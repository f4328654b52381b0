"""The wheels, for tests that go on without them."""

from __future__ import annotations

from pathlib import Path

import pytest
from interop.venvs import NotInstalled, interpreter


def interpreter_or_skip(version: str) -> Path:
    """The Python that has Dynamo's wheel of this version."""
    try:
        return interpreter(version)
    except NotInstalled as why:
        pytest.skip(str(why))
