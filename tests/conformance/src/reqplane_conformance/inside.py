"""What the child of an `outside.OutsideProcess` does: follow lines of JSON, and answer with some."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any


def find_class(module: str, file: str, name: str) -> Any:
    """By its module's name, or else by its file."""
    if module == "__main__":  # a script's, which is somebody else here
        module = "subject"
    try:
        found: Any = importlib.import_module(module)
    except ImportError:
        spec = importlib.util.spec_from_file_location(module, file)
        if spec is None or spec.loader is None:
            raise
        found = sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def say(what: str, **more: Any) -> None:
    print(json.dumps({"what": what, **more}), flush=True)


async def follow(do: Callable[..., Awaitable[dict[str, Any] | None]]) -> None:
    """Call `do(what, **how)` for each line, until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        say("done", **(await do(**json.loads(line)) or {}))
