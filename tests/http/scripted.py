"""An HTTP/2 peer that does what a test tells it, built on h2, and raw peers of bytes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings


class _Lenient(h2.connection.H2Connection):
    """Leaves it to the script what to do with streams above the limit, which it tells late."""

    @property
    def open_inbound_streams(self) -> int:
        return 0


class ScriptedPeer(asyncio.Protocol):
    """One connection of a server; `script(peer, event)` is called for each event."""

    def __init__(
        self, script: Callable[[ScriptedPeer, Any], None], settings: dict[Any, int], enforced: bool
    ) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config) if enforced else _Lenient(config)
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=settings)
        self._greets_first = enforced
        self.script = script
        self.events: list[Any] = []
        self.bodies: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.raw = b""  # the first bytes that came
        self.lost = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._greets_first:
            self.h2.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        if not self.raw and not self._greets_first:
            self.h2.initiate_connection()
        self.raw = self.raw or data
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] += event.data or b""
            self.script(self, event)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def answer(self, stream: int, status: int, body: bytes = b"", **headers: str) -> None:
        fields = [(":status", str(status)), *((name.replace("_", "-"), v) for name, v in headers.items())]
        self.h2.send_headers(stream, fields, end_stream=not body)
        if body:
            self.h2.send_data(stream, body, end_stream=True)
        self.flush()

    def seen(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class PeerServer:
    """Listens, and makes a peer for each connection."""

    def __init__(self, script: Callable[[ScriptedPeer, Any], None], **settings: Any) -> None:
        self.peers: list[ScriptedPeer] = []
        self._script = script
        self._settings = settings.get("settings", {})
        self._enforced = settings.get("enforced", True)
        self.url = ""

    async def __aenter__(self) -> PeerServer:
        self._server = await asyncio.get_running_loop().create_server(self._make, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"h2c://127.0.0.1:{port}/v1/dynamo/namespace.a.component.b.endpoint.c.instance.0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for peer in self.peers:
            peer.transport.close()
            await peer.lost
        await self._server.wait_closed()

    @property
    def peer(self) -> ScriptedPeer:
        return self.peers[-1]

    def count(self, kind: type[Any]) -> int:
        """How many events of a kind all its connections have seen."""
        return sum(len(peer.seen(kind)) for peer in self.peers)

    def _make(self) -> ScriptedPeer:
        peer = ScriptedPeer(self._script, self._settings, self._enforced)
        self.peers.append(peer)
        return peer


def acknowledge(peer: ScriptedPeer, event: Any) -> None:
    """The script of a worker that accepts everything."""
    if isinstance(event, h2.events.DataReceived):
        peer.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
    if isinstance(event, h2.events.StreamEnded):
        peer.answer(event.stream_id or 0, 202)


def silent(peer: ScriptedPeer, event: Any) -> None:
    """The script of a worker that never answers."""


async def until(condition: Callable[[], Any]) -> None:
    """Wait for something that another task brings about."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)
