"""Connecting to a frontend: only where that is allowed, and to few at a time that have not answered."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections import Counter
from collections.abc import Awaitable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from reqplane.sockets import split_address

from reqplane_tcp_stream.allow import Network, why_not
from reqplane_tcp_stream.connection import Connection

Key: TypeAlias = tuple[str, str]
"""What a connection leads to: a frontend's address and process; no process in Dynamo's form."""

CONNECT_TIME = 5.0
"""Seconds for name, TCP connection and the frontend's answer, together."""
_MAX_UNPROVEN = 64
"""Frontends that are being tried at a time: forged requests must not make a worker a port scanner."""
_LOOKUPS = 8
"""Names looked up at a time, in threads of their own: forged ones must not take those of handlers."""


class Dialler:
    """Makes a worker's connections."""

    def __init__(self, allowed: tuple[Network, ...] | None) -> None:
        self._allowed = allowed
        self._tried: Counter[Key] = Counter()
        self._lookups = ThreadPoolExecutor(_LOOKUPS, "reqplane-lookup")

    def close(self) -> None:
        """Look up no more names."""
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def dial(self, key: Key, connection: Connection, proof: Awaitable[None] | None = None) -> None:
        """Connect and wait for `proof`; otherwise the connection is given up.

        OSError and ValueError say why it can't be.
        """
        try:
            with self._trying(key):
                async with asyncio.timeout(CONNECT_TIME):
                    await self._connect(key[0], connection)
                    if proof is not None:
                        await proof
        except BaseException as error:
            connection.give_up("connecting failed")
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"no answer within {CONNECT_TIME:g} s") from error
            raise

    @contextlib.contextmanager
    def _trying(self, key: Key) -> Generator[None]:
        if key not in self._tried and len(self._tried) >= _MAX_UNPROVEN:
            raise ConnectionError(
                f"{_MAX_UNPROVEN} other frontends have not answered yet, and no more are tried at a time"
            )
        self._tried[key] += 1
        try:
            yield
        finally:
            self._tried[key] -= 1
            if not self._tried[key]:
                del self._tried[key]

    async def _connect(self, address: str, connection: Connection) -> None:
        """Try the allowed ones of the address's numeric addresses, one after the other.

        The name is looked up once: what was checked is what is dialled.
        """
        name, port = split_address(address)
        loop = asyncio.get_running_loop()
        hosts = await self._look_up(name, port)
        problems = [why_not(host, port, self._allowed) for host in hosts]
        allowed = [host for host, problem in zip(hosts, problems, strict=True) if problem is None]
        failure: OSError = PermissionError(
            next((text for text in problems if text), "the name has no address")
        )
        for host in allowed:
            try:
                await loop.create_connection(lambda: connection, host, port)
            except OSError as error:
                failure = error
            else:
                return
        raise failure

    async def _look_up(self, name: str, port: int) -> list[str]:
        """A name's numeric addresses, as the system orders them; one that is numeric needs no thread."""
        look_up = functools.partial(socket.getaddrinfo, name, port, type=socket.SOCK_STREAM)
        try:
            found = look_up(flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            found = await asyncio.get_running_loop().run_in_executor(self._lookups, look_up)
        return list(dict.fromkeys(_numeric(sockaddr) for *_, sockaddr in found))


def _numeric(sockaddr: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> str:
    """The address as text, with the zone of a link-local one."""
    host = str(sockaddr[0]).partition("%")[0]
    zone = sockaddr[3] if len(sockaddr) == 4 else 0
    return f"{host}%{zone}" if zone else host
