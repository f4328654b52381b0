"""Sockets, and how addresses are written: the same for every plane.

Where an address can't be used, the error names the variable to change and, as far as the system tells,
the process that is in the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import resource
import socket
from dataclasses import dataclass
from typing import Any

from reqplane.errors import SettingsError, describe

_LISTENING = "0A"  # the state's name in /proc/net/tcp


async def listening_socket(
    host: str, port: int, *, host_variable: str, port_variable: str, backlog: int
) -> socket.socket:
    """A socket that listens on host:port; port 0 is any free one.

    SettingsError names the variable that is wrong.
    """
    found = await _look_up(host, host_variable)
    try:
        return _bound(found, port, backlog)
    except OSError as error:
        raise _explain(host, port, host_variable, port_variable, error) from error


async def first_free_socket(
    host: str, first_port: int, *, host_variable: str, port_variable: str, backlog: int
) -> socket.socket:
    """The same on the first free port from `first_port` up."""
    found = await _look_up(host, host_variable)
    for port in range(first_port, 65536):
        try:
            return _bound(found, port, backlog)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise _bad_host(host, host_variable, error) from error
    raise SettingsError([(port_variable, "", f"no port from {first_port} up is free")])


# ── how an address is written ───────────────────────────────────────────────────────────────────────


def host_and_port(host: str, port: int) -> str:
    """host:port, or [v6]:port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(address: str) -> tuple[str, int]:
    """Take apart host:port or [v6]:port; ValueError if it is neither."""
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or not port.isascii() or not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65536:
        raise ValueError("wanted host:port or [address]:port")
    return host, int(port)


def told_address(told: str, port: int) -> tuple[str, int]:
    """Host and port of what others are told: a host that goes with `port`, or one with a port of its own."""
    own_port = told.startswith("[") or told.count(":") == 1
    return split_address(told) if own_port else (told, port)


# ── connecting ──────────────────────────────────────────────────────────────────────────────────────


def reason(error: OSError) -> str:
    """Why a connection could not be made: "Connection refused", where asyncio says "Connect call failed"."""
    if isinstance(error, socket.gaierror):
        return describe(error)
    if error.errno:
        return os.strerror(error.errno)
    # A name with several addresses: asyncio puts what each of them met into one text.
    numbers = dict.fromkeys(re.findall(r"\[Errno (\d+)\]", str(error)))
    return " / ".join(os.strerror(int(number)) for number in numbers) or describe(error)


def most_connections(most: int, share: float) -> int:
    """`most`, or this share of the descriptors that the process may have, whichever is less."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, int(soft * share))


# ── listening ───────────────────────────────────────────────────────────────────────────────────────


async def _look_up(host: str, variable: str) -> Any:
    """What getaddrinfo says first of a host; an IP address needs no thread to look it up."""
    with contextlib.suppress(OSError, UnicodeError):
        return socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]
    loop = asyncio.get_running_loop()
    try:
        return (await loop.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))[0]
    except (OSError, UnicodeError) as error:  # UnicodeError: of names like "a..b"
        raise _bad_host(host, variable, error) from error


def _bound(found: Any, port: int, backlog: int) -> socket.socket:
    """It listens at once, so that of two processes only one has the port."""
    family, kind, protocol, _, (address, _, *scope) = found
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, port, *scope))
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _explain(host: str, port: int, host_variable: str, port_variable: str, error: OSError) -> SettingsError:
    where = host_and_port(host, port)
    if error.errno == errno.EADDRINUSE:
        problem = (
            f"the address {where} is taken by {holder_of(port) or 'another process'}; "
            f"choose another port, or {port_variable}=0 for any free one"
        )
    elif error.errno == errno.EACCES:
        problem = (
            f"may not listen on {where}; choose a port above 1023, or {port_variable}=0 for any free one"
        )
    else:
        return _bad_host(host, host_variable, error)
    return SettingsError([(port_variable, str(port), problem)])


def _bad_host(host: str, variable: str, error: Exception) -> SettingsError:
    problem = f"can't listen there ({describe(error)}); wanted an address of this machine, or 0.0.0.0"
    return SettingsError([(variable, host, problem)])


# ── who is in the way ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that listens on a port."""

    pid: int

    def is_stopped(self) -> bool:
        """Whether somebody sent it SIGSTOP, or Ctrl-Z."""
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"
        return False

    def __str__(self) -> str:
        return f"process {self.pid} ({_command(self.pid)})"


def holder_of(port: int) -> Holder | None:
    """Which process listens on `port`, as far as /proc tells this user."""
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not inodes:
        return None
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if _owns_one_of(pid, inodes):
            return Holder(pid)
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


def _owns_one_of(pid: int, sockets: set[str]) -> bool:
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):  # another user's process, or one that has just ended
        for descriptor in os.listdir(folder):
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{descriptor}") in sockets:
                    return True
    return False


def _command(pid: int) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return _program(file.read().decode(errors="replace").rstrip("\0").split("\0"))
    return "ended"


def _program(command: list[str]) -> str:
    """The program and what it runs, without the arguments: there may be passwords among them."""
    program = os.path.basename(command[0]) or "no name"
    words = [program]
    if program.startswith("python"):
        rest = [word for word in command[1:] if word != "-m"]
        words += [os.path.basename(word) for word in rest[:1] if not word.startswith("-")]
    return " ".join(words)[:80]
