"""What of Dynamo's Python API there is, and how it is called, taken from its wheel (asking.py).

PYTHONPATH=tests .venv/bin/python -m dynamo.signatures      writes signatures.json anew
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

VERSION = "1.6.1"
FILE = Path(__file__).parent / "signatures.json"

Signatures = dict[str, dict[str, str | None]]
"""By class, or "" for functions: each name's parameters as text, null for what is no function."""

CLASSES = (
    "Client",
    "Context",
    "ContextMetadata",
    "DistributedRuntime",
    "Endpoint",
    "Instance",
    "PyAsyncRequestStream",
    "RouterMode",
    "SpanProxy",
    "TransportType",
    "UnaryClient",
)
EXCEPTIONS = (
    "Cancelled",
    "CannotConnect",
    "ConnectionTimeout",
    "Disconnected",
    "DynamoException",
    "EngineShutdown",
    "HttpError",
    "InvalidArgument",
    "RouterQueueLimitExceeded",
    "SelectionServiceError",
    "StreamIncomplete",
    "Unknown",
    "WorkerUnavailable",
)
FUNCTIONS = ("dynamo_endpoint", "dynamo_worker", "serve_unary_endpoint")
_MODULES = ("dynamo.runtime", "dynamo.llm.exceptions")


def extract(python: Path) -> Signatures:
    """Those of the wheel that this interpreter has."""
    arguments = json.dumps([[*CLASSES, *EXCEPTIONS], FUNCTIONS, _MODULES])
    command = [python, Path(__file__).with_name("asking.py"), arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found: Signatures = json.loads(told.stdout)
    return found


def kept() -> Signatures:
    found: Signatures = json.loads(FILE.read_text())
    return found


def write(python: Path) -> None:
    FILE.write_text(json.dumps(extract(python), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    from interop.venvs import interpreter

    write(interpreter(VERSION))
