"""Listening, and what is said where that can't be; how addresses are written."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from reqplane.errors import SettingsError
from reqplane.sockets import _program, first_free_socket, host_and_port, listening_socket, split_address

VARIABLES: dict[str, Any] = {"host_variable": "HOST", "port_variable": "PORT", "backlog": 16}


@pytest.fixture
def busy() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def wrong(host: str, port: int) -> tuple[str, str, str]:
    with pytest.raises(SettingsError) as caught:
        await listening_socket(host, port, **VARIABLES)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
async def test_it_listens_and_does_not_block(host: str) -> None:
    with await listening_socket(host, 0, **VARIABLES) as listener:
        assert not listener.getblocking()
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=5):
            pass


async def test_the_ipv6_wildcard_listens_for_ipv4_too() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with await listening_socket("0::0", 0, **VARIABLES) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass


async def test_a_busy_port_names_its_holder(busy: int) -> None:
    variable, value, problem = await wrong("127.0.0.1", busy)
    assert (variable, value) == ("PORT", str(busy))
    assert f"127.0.0.1:{busy} is taken by" in problem
    assert "PORT=0 for any free one" in problem
    if sys.platform == "linux":
        assert f"process {os.getpid()} (" in problem


async def test_a_busy_port_where_the_system_does_not_tell_the_holder(
    busy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(path: str) -> None:
        raise FileNotFoundError(errno.ENOENT, "no /proc", path)

    monkeypatch.setattr("reqplane.sockets.open", missing, raising=False)
    assert "is taken by another process; choose another port" in (await wrong("127.0.0.1", busy))[2]


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["/usr/bin/server", "--password=hunter2", "hunter2"], "server"),
        (["python3.11", "-m", "http.server", "hunter2"], "python3.11 http.server"),
        (["/usr/bin/python3", "/srv/app.py", "hunter2"], "python3 app.py"),
        (["python3", "-c", "hunter2"], "python3"),
        ([""], "no name"),
    ],
)
def test_a_holder_is_named_without_its_arguments(command: list[str], shown: str) -> None:
    assert _program(command) == shown


async def test_a_port_that_may_not_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refused)
    variable, value, problem = await wrong("::1", 80)
    assert (variable, value) == ("PORT", "80")
    assert problem == "may not listen on [::1]:80; choose a port above 1023, or PORT=0 for any free one"


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b", "x" * 70])
async def test_a_host_that_is_not_here(host: str) -> None:
    variable, value, problem = await wrong(host, 0)
    assert (variable, value) == ("HOST", host)
    assert "wanted an address of this machine" in problem


async def test_names_are_looked_up_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def look_up(*arguments: Any, flags: int = 0, **options: Any) -> None:
        if not flags & socket.AI_NUMERICHOST:
            threads.append(threading.get_ident())
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert "Name or service not known" in (await wrong("nowhere.invalid", 0))[2]
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_the_first_free_one(busy: int) -> None:
    with await first_free_socket("127.0.0.1", busy, **VARIABLES) as listener:
        assert busy < listener.getsockname()[1] < busy + 100
    with await first_free_socket("127.0.0.1", busy + 1, **VARIABLES) as listener:
        assert busy < listener.getsockname()[1] < busy + 100


async def test_none_is_free() -> None:
    with pytest.raises(SettingsError, match="no port from 65536 up is free"):
        await first_free_socket("127.0.0.1", 65536, **VARIABLES)


@pytest.mark.parametrize(
    ("host", "port", "written"),
    [("10.0.0.1", 80, "10.0.0.1:80"), ("::1", 8081, "[::1]:8081"), ("worker-1", 1, "worker-1:1")],
)
def test_an_address_written_is_read_again(host: str, port: int, written: str) -> None:
    assert host_and_port(host, port) == written
    assert split_address(written) == (host, port)


@pytest.mark.parametrize("address", ["", "x", ":1", "[]:1", "x:", "x:0", "x:65536", "x:\u0661", "x:123456"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="wanted host:port"):
        split_address(address)
