"""What a case puts between a frontend and a worker, or in the worker's place."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from reqplane.model import Instance

from reqplane_conformance.request.places import Place, moved, reached
from reqplane_conformance.request.stage import Got, RequestStage

_CHUNK = 65536
_PAUSE = 0.001
"""Seconds between two pieces, so that the other side is told of each by itself."""
_NO_ADDRESS = "its records name no address that a socket could reach"

Stranger = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What answers a connection in a worker's place."""


async def place_of(stage: RequestStage, worker: Any) -> Place:
    """Where a worker listens; ends the case where its record does not say that."""
    place = await reached(worker.record)
    if place is None:
        stage.does_not_apply(_NO_ADDRESS)
    return place


class Between:
    """An address of our own, which frontends take for the worker's."""

    def __init__(self, stage: RequestStage, worker: Any, place: Place) -> None:
        self._stage, self._worker, self._place = stage, worker, place
        self._folder = ""
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._here: Place
        self._server: asyncio.Server

    async def _open(self) -> None:
        if self._place.port:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            port: int = self._server.sockets[0].getsockname()[1]
            self._here = Place(f"127.0.0.1:{port}", "127.0.0.1", port)
        else:
            self._folder = tempfile.mkdtemp(prefix="conformance-")
            path = os.path.join(self._folder, "socket")
            self._server = await asyncio.start_unix_server(self._serve, path)
            self._here = Place(path, path)
        self._stage.push(self.aclose)

    @property
    def got(self) -> list[Got]:
        return self._worker.got

    @property
    def record(self) -> Mapping[str, Any]:
        """The worker's, with this address in it."""
        return moved(self._worker.record, self._place, self._here)

    @property
    def instance(self) -> Instance:
        instance: Instance = self._worker.instance
        transport = moved(instance.transport, self._place, self._here)
        return dataclasses.replace(instance, transport=transport)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: Any = asyncio.current_task()
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    def cut(self) -> None:
        """Let every connection be lost at once."""
        for writer in self._writers:
            writer.transport.abort()

    async def aclose(self) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


class Instead(Between):
    """Somebody else at a worker's address, who does not speak the transport's protocol."""

    _stranger: Stranger

    @classmethod
    async def start(cls, stage: RequestStage, worker: Any, stranger: Stranger) -> Instead:
        self = cls(stage, worker, await place_of(stage, worker))
        self._stranger = stranger
        await self._open()
        return self

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._stranger(reader, writer)


class Relay(Between):
    """Passes everything on, unless it is told otherwise."""

    answers = True
    """Whether the frontend hears what the worker says."""
    most: int | None = None
    """Bytes that reach the worker; with the next one all connections are lost."""
    pieces: Callable[[bytes], Iterable[bytes]] | None = None
    """How what is passed on is cut up; each piece is told to the other side by itself."""

    def __init__(self, stage: RequestStage, worker: Any, place: Place) -> None:
        super().__init__(stage, worker, place)
        self.heard: list[bytearray] = []
        """What frontends have said, for each connection."""

    @classmethod
    async def start(cls, stage: RequestStage, worker: Any) -> Relay:
        self = cls(stage, worker, await place_of(stage, worker))
        await self._open()
        return self

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = bytearray()
        self.heard.append(heard)
        other, onward = await self._place.connect()
        self._writers.add(onward)
        back = asyncio.create_task(self._pass_on(other, writer, self._permitted))
        self._tasks.add(back)
        try:
            await self._pass_on(reader, onward, lambda data: self._allowance(data, heard))
        finally:
            self._writers.discard(onward)
            onward.transport.abort()
            await asyncio.wait([back])
            self._tasks.discard(back)

    def _permitted(self, data: bytes) -> bytes:
        return data if self.answers else b""

    def _allowance(self, data: bytes, heard: bytearray) -> bytes:
        heard += data
        if self.most is None:
            return data
        passed, self.most = data[: self.most], self.most - len(data)
        return passed

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowed: Callable[[bytes], bytes]
    ) -> None:
        """Until one of the two is gone; then the other goes too."""
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                for piece in self._cut_up(allowed(data)):
                    writer.write(piece)
                    await writer.drain()
                    if self.pieces is not None:
                        await asyncio.sleep(_PAUSE)
                if self.most is not None and self.most < 0:
                    self.most = None
                    await writer.drain()
                    self.cut()
                    return
            while not (self.answers or writer.transport.is_closing()):
                await asyncio.sleep(_PAUSE)  # that the worker hung up is an answer too
        writer.close()

    def _cut_up(self, data: bytes) -> Iterable[bytes]:
        if not data:
            return ()
        return (data,) if self.pieces is None else self.pieces(data)
