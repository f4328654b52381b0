"""Between a process and its NATS server: a line that can be slow, late or silent."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Line:
    """What a process connects to instead of the server at `port`."""

    def __init__(self, port: int, rate: float = 0) -> None:
        self._port = port
        self.rate = rate
        """Bytes a second in each direction; 0 = as fast as it goes."""
        self.back = asyncio.Event()
        """While it is not set nothing comes from the server."""
        self.back.set()
        self.holds_at = b""
        """When this goes to the server, nothing comes from it any more."""
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Its URL."""
        self._server = await asyncio.start_server(self._joined, "127.0.0.1", 0)
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there = await asyncio.open_connection("127.0.0.1", self._port)
        ways = [self._carry(reader, there[1], False), self._carry(there[0], writer, True)]
        tasks = [asyncio.ensure_future(way) for way in ways]
        try:
            with suppress(asyncio.CancelledError):  # at the test's end
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in tasks:
                one.cancel()
            writer.close()
            there[1].close()
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: bool) -> None:
        with suppress(OSError):
            while piece := await reader.read(32 * 1024):
                if self.rate:
                    await asyncio.sleep(len(piece) / self.rate)
                if back:
                    await self.back.wait()
                if not back and self.holds_at and self.holds_at in piece:
                    self.back.clear()
                writer.write(piece)
                await writer.drain()
