"""What nats-py reads from and writes to: our connection, instead of a stream of its own."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import ParseResult

from nats.aio.transport import Transport

from reqplane_nats.wire import Owner, Wire

_CLOSE_LIMIT = 1.0
"""Seconds that a close in order may take; a frozen server takes nothing any more."""


class NoTls(Exception):
    """TLS is wanted and the server has none."""


class Pipe(Transport):
    """One connection, which nats-py opens, encrypts, logs in on and pings."""

    def __init__(self, owner: Owner, tls: bool) -> None:
        self._owner = owner
        self._tls = tls
        self._greeted = False
        self.wire: Wire | None = None

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:
        loop = asyncio.get_running_loop()
        making = loop.create_connection(self._make, cast(str, uri.hostname), cast(int, uri.port))
        await asyncio.wait_for(making, connect_timeout)

    def _make(self) -> Wire:
        self.wire = Wire(self._owner)
        return self.wire

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: float
    ) -> None:
        wire = self._wire
        assert wire.transport is not None
        name = uri if isinstance(uri, str) else uri.hostname
        encrypting = asyncio.get_running_loop().start_tls(
            wire.transport, wire, ssl_context, server_hostname=name
        )
        transport = await asyncio.wait_for(encrypting, connect_timeout)
        if transport is None:
            raise ConnectionResetError("the server closed the connection")
        wire.begin(transport)

    @property
    def _wire(self) -> Wire:
        assert self.wire is not None, "connect comes first"
        return self.wire

    def write(self, payload: bytes) -> None:
        self._wire.write_for_client(payload)

    def writelines(self, payload: Iterable[bytes]) -> None:
        for piece in payload:
            self._wire.write_for_client(piece)

    async def read(self, buffer_size: int) -> bytes:
        return await self._wire.line()

    async def readline(self) -> bytes:
        line = await self._wire.line()
        if not self._greeted and line.startswith(b"INFO "):
            self._greeted = True
            return self._greeting(line)
        return line

    def _greeting(self, line: bytes) -> bytes:
        """The server's first line.  nats-py would send the password in clear where TLS is not offered."""
        if not self._tls:
            return line
        info = cast("dict[str, Any]", json.loads(line[5:]))
        if not (info.get("tls_required") or info.get("tls_available")):
            raise NoTls("the server has no TLS, which tls:// and NATS_TLS_… ask for")
        return b"INFO %s\r\n" % json.dumps({**info, "tls_required": True}).encode()

    async def drain(self) -> None:
        self._wire.flush()

    def close(self) -> None:
        if self.wire is not None:
            self.wire.close()

    async def wait_closed(self) -> None:
        if self.wire is None or self.wire.transport is None:
            return
        await asyncio.wait([self.wire.over], timeout=_CLOSE_LIMIT)
        self.wire.abort()

    def abort(self) -> None:
        if self.wire is not None:
            self.wire.abort()

    def at_eof(self) -> bool:
        return self._wire.drained

    def __bool__(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        return True
