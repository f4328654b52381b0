"""Opens the worker's listening socket, and explains why where it can't."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import Any

from reqplane.errors import SettingsError, describe

BACKLOG = 4096
_LISTENING = "0A"  # the state's name in /proc/net/tcp


async def bind(host: str, port: int) -> socket.socket:
    """A socket that listens on host:port.  SettingsError names the variable that is wrong."""
    try:
        family, kind, protocol, _, address = await _look_up(host, port)
    except OSError as error:
        raise _bad_host(host, error) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _explain(host, port, error) from error
    listener.setblocking(False)
    return listener


async def _look_up(host: str, port: int) -> Any:
    """The first address of a host; an IP address needs no thread to look it up."""
    with contextlib.suppress(OSError):
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]
    loop = asyncio.get_running_loop()
    return (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))[0]


def _explain(host: str, port: int, error: OSError) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        holder = holder_of(port)
        problem = (
            f"the address {host}:{port} is taken by {holder or 'another process'}; "
            f"choose another port, or 0 for any free one"
        )
        return SettingsError([("DYN_HTTP_RPC_PORT", str(port), problem)])
    if error.errno == errno.EACCES:
        problem = f"may not listen on {host}:{port}; choose a port above 1023, or 0 for any free one"
        return SettingsError([("DYN_HTTP_RPC_PORT", str(port), problem)])
    return _bad_host(host, error)


def _bad_host(host: str, error: OSError) -> SettingsError:
    problem = f"can't listen there ({describe(error)}); wanted an address of this machine, or 0.0.0.0"
    return SettingsError([("DYN_HTTP_RPC_HOST", host, problem)])


def holder_of(port: int) -> str | None:
    """Which process listens on `port`, as far as /proc tells this user."""
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not inodes:
        return None
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if _owns_one_of(pid, inodes):
            return f"process {pid} ({_command(pid)})"
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table) as lines:
            for line in lines:
                fields = line.split()
                if fields[3] == _LISTENING and fields[1].endswith(f":{port:04X}"):
                    inodes.add(fields[9])
    return inodes


def _owns_one_of(pid: str, sockets: set[str]) -> bool:
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):  # another user's process, or one that has just ended
        for descriptor in os.listdir(folder):
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{descriptor}") in sockets:
                    return True
    return False


def _command(pid: str) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().replace(b"\0", b" ").decode(errors="replace").strip()[:80]
    return "ended"
