"""msgspec, which comes with the extra `speed`: it reads JSON and msgpack several times as fast."""

from __future__ import annotations

import importlib
from typing import Any


def find_msgspec() -> Any:
    """The module msgspec; None where it is not installed."""
    try:
        return importlib.import_module("msgspec")
    except ImportError:
        return None
