"""Where a record says that its worker is, as far as a socket can reach it.

A record is the transport's own business; but most name an address somewhere in it: host:port, alone or in
a URL, or the path of a Unix socket.  With it a case can connect to a listener past the transport, and put
itself between the two.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

_TCP = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|localhost|\d+\.\d+\.\d+\.\d+):(?P<port>\d{1,5})(?!\d)")
_PATH = re.compile(r"/[^\0]*")
_DISCARD = 9
"""The port of the response address in a case's record: nobody listens there."""


@dataclass(frozen=True, slots=True)
class Place:
    """An address: `text` is how it stands in the record, a port of 0 means a Unix socket at `host`."""

    text: str
    host: str
    port: int = 0

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """OSError if nobody listens."""
        if self.port:
            return await asyncio.open_connection(self.host, self.port)
        return await asyncio.open_unix_connection(self.host)

    async def is_open(self) -> bool:
        """Whether somebody listens there."""
        try:
            _, writer = await self.connect()
        except OSError:
            return False
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return True


def _in_text(text: str) -> Iterator[Place]:
    for found in _TCP.finditer(text):
        host, port = found["host"].strip("[]"), int(found["port"])
        with suppress(ValueError):
            if host != "localhost":
                ipaddress.ip_address(host)
            if 0 < port < 65536 and port != _DISCARD:
                yield Place(found[0], host, port)
    path = _PATH.search(text.rpartition("://")[2])
    with suppress(OSError):
        if path is not None and stat.S_ISSOCK(os.stat(path[0]).st_mode):
            yield Place(path[0], path[0])


def named(value: object) -> Iterator[Place]:
    """All that stand somewhere in a JSON value."""
    if isinstance(value, str):
        yield from _in_text(value)
    elif isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        yield from _in_members(members)
        for member in members.values():
            yield from named(member)
    elif isinstance(value, list | tuple):
        for item in cast("list[object]", value):
            yield from named(item)


def _in_members(members: Mapping[str, object]) -> Iterator[Place]:
    """Host and port as two members."""
    port = members.get("port")
    hosts = [value for name, value in members.items() if name in ("host", "address", "ip")]
    if isinstance(port, int) and hosts and isinstance(hosts[0], str):
        yield from _in_text(f"{hosts[0]}:{port}")


async def reached(record: Mapping[str, Any]) -> Place | None:
    """The first address in a record at which somebody listens."""
    for place in dict.fromkeys(named(record)):
        if await place.is_open():
            return place
    return None


def moved(value: Any, old: Place, new: Place) -> Any:
    """The same JSON value with another address in place of one."""
    if isinstance(value, str):
        return value.replace(old.text, new.text)
    if isinstance(value, list | tuple):
        return [moved(item, old, new) for item in cast("list[Any]", value)]
    if not isinstance(value, Mapping):
        return value
    members = cast("Mapping[str, Any]", value)
    if old in _in_members(members):
        parts: dict[object, object] = {old.host: new.host, old.port: new.port}
        simple = {name: member for name, member in members.items() if isinstance(member, str | int)}
        members = {**members, **{name: parts.get(member, member) for name, member in simple.items()}}
    return {name: moved(member, old, new) for name, member in members.items()}
