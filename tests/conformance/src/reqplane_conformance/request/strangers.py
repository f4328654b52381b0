"""Peers that are none: what may listen at an address where a worker once was."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping

from reqplane_conformance.request.relay import Stranger
from reqplane_conformance.usage import resident_bytes

_MIB = 1 << 20


def _says(data: bytes, *, after: int = 0, stays: bool = False) -> Stranger:
    """Says something once it has heard `after` bytes, then hangs up, or waits until the other side does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if after:
            await reader.read(after)
        writer.write(data)
        await writer.drain()
        while stays and await reader.read(65536):
            pass
        writer.close()
        await writer.wait_closed()

    return answer


STRANGERS: Mapping[str, Stranger] = {
    "hangs up": _says(b""),
    "hangs up when it is told something": _says(b"", after=1),
    "says a line": _says(b"220 this is another service\r\n", stays=True),
    "says a line and hangs up": _says(b"220 this is another service\r\n", after=1),
    "says junk": _says(random.Random(2).randbytes(5000), after=1, stays=True),
    "says zeros": _says(bytes(5000), after=1, stays=True),
    "is a web server": _says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", after=1, stays=True),
}


class Flood:
    """Answers without end; `grown` is by how much this process grew meanwhile."""

    enough = 100 * _MIB

    def __init__(self) -> None:
        self.grown = 0
        self._before = resident_bytes()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        for _ in range(1024):
            writer.write(b"HTTP/1.1 " + b"a" * _MIB)
            await writer.drain()
            self.grown = max(self.grown, resident_bytes(os.getpid()) - self._before)
            if self.grown > self.enough:
                return
