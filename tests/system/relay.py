"""A frontend process for tests: requests come in on one connection and their answers go back on it.

    in    {"id": "7", "request": {…}}
    out   {"id": "7", "item": …} for each item, then {"id": "7", "end": true, "plane": "http", "worker": 2}
          or {"id": "7", "error": "what the caller got"}

It prints the port that it listens on.  SIGTERM: it says {"leaving": true} and ends when the other side has
sent its last request and all are answered.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

import reqplane


class Relay:
    """One connection's requests, all at once."""

    def __init__(self, client: reqplane.Client, leaving: asyncio.Event) -> None:
        self._client = client
        self._leaving = leaving
        self.done = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        saying = asyncio.create_task(self._say_that_it_leaves(writer))
        running: set[asyncio.Task[None]] = set()
        while line := await reader.readline():
            task = asyncio.create_task(self._answer(json.loads(line), writer))
            running.add(task)
            task.add_done_callback(running.discard)
        while running:
            await asyncio.wait(set(running))
        saying.cancel()
        writer.close()
        await writer.wait_closed()
        self.done.set()

    async def _say_that_it_leaves(self, writer: asyncio.StreamWriter) -> None:
        await self._leaving.wait()
        _write(writer, {"leaving": True})

    async def _answer(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        stream = self._client.generate(asked["request"], timeout=asked.get("timeout"))
        last: dict[str, Any]
        try:
            async for item in stream:
                _write(writer, {"id": asked["id"], "item": item})
            assert stream.instance is not None
            last = {"end": True, "plane": stream.plane, "worker": stream.instance.instance_id}
        except Exception as error:
            last = {"error": f"{type(error).__name__}: {error}"}
        _write(writer, {"id": asked["id"], **last})


def _write(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")


async def main(path: str) -> None:
    leaving = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leaving.set)
    async with reqplane.connect(signals=False) as runtime:
        client = await runtime.endpoint(path).client()
        await client.wait_for_instances(timeout=20)
        relay = Relay(client, leaving)
        server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
        print("port", server.sockets[0].getsockname()[1], flush=True)
        await relay.done.wait()
        server.close()


asyncio.run(main(sys.argv[1]))
