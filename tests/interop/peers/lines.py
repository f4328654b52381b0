"""How a peer is told what to do, and what it tells: one JSON object a line, in by stdin and out by stdout.

Peers run under Dynamo's interpreters too, so this needs nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any


class Lines:
    """The two ends of the conversation.  Whatever else prints to stdout goes to stderr from now on."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def say(self, event: str, **fields: Any) -> None:
        """Tell of something that happened."""
        self._out.write(json.dumps({"event": event, **fields}) + "\n")
        self._out.flush()

    async def commands(self) -> AsyncIterator[dict[str, Any]]:
        """What is to be done, until the other side is gone."""
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[bytes] = asyncio.Queue()
        rest = b""

        def readable() -> None:
            nonlocal rest
            data = os.read(0, 1 << 20)
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                lines.put_nowait(line)
            if not data:
                loop.remove_reader(0)
                lines.put_nowait(b"")

        loop.add_reader(0, readable)
        while line := await lines.get():
            yield json.loads(line)
