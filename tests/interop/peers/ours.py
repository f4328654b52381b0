"""Who we are."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import Any

import reqplane


def hello() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "side": "reqplane",
        "version": importlib.metadata.version("reqplane"),
        "library": reqplane.__file__,
        "python": sys.version.split()[0],
    }


def describe(context: reqplane.Context) -> dict[str, Any]:
    return {"id": context.id, "headers": dict(context.headers)}
