"""Where the listener listens, and what is said where it can't."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
import reqplane_tcp_stream.transport
from reqplane.errors import SettingsError
from reqplane.model import End
from reqplane_tcp_stream.transport import TcpStreamTransport

from .conftest import HERE, OpenTransport, Pair

HOST, PORT = "DYN_TCP_RESPONSE_STREAM_HOST", "DYN_TCP_RESPONSE_STREAM_PORT"
ADVERTISE = "DYN_TCP_RESPONSE_STREAM_ADVERTISE_HOST"


def port_of(transport: TcpStreamTransport) -> int:
    return int(transport.advertised.rpartition(":")[2])


async def wrong(transport: TcpStreamTransport) -> list[tuple[str, str, str]]:
    with pytest.raises(SettingsError) as caught:
        await transport.listen()
    assert transport.advertised == ""
    return caught.value.problems


@pytest.fixture
def busy() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_the_first_free_port_from_9000_up(transport: OpenTransport):
    with ExitStack() as taken:
        for port in (9000, 9001):
            with suppress(OSError):  # somebody else has it: as good
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
        first, second = await transport({PORT: ""}), await transport({PORT: ""})
        await asyncio.gather(first.listen(), second.listen(), first.listen())
        assert 9001 < port_of(first) < port_of(second) < 9100


async def test_the_first_port_is_9000_itself(transport: OpenTransport, monkeypatch: pytest.MonkeyPatch):
    """Whatever this machine's ports are used for: the system is asked for them in this order."""
    asked: list[int] = []
    free = {9000}
    bind = socket.socket.bind

    def scripted(self: socket.socket, address: tuple[str, int]) -> None:
        asked.append(address[1])
        if address[1] not in free:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        bind(self, (address[0], 0))

    monkeypatch.setattr(socket.socket, "bind", scripted)
    await (await transport({PORT: ""})).listen()
    assert asked == [9000]
    asked.clear()
    free = {9003}
    await (await transport({PORT: ""})).listen()
    assert asked == [9000, 9001, 9002, 9003]


async def test_none_is_free(transport: OpenTransport, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reqplane_tcp_stream.transport, "FIRST_PORT", 65536)
    ((variable, _, problem),) = await wrong(await transport({PORT: ""}))
    assert variable == PORT
    assert "free" in problem


async def test_listening_again_changes_nothing(frontend: TcpStreamTransport):
    address = frontend.advertised
    await frontend.listen()
    assert frontend.advertised == address
    assert frontend.expect("r").info.address == address


async def test_port_0_is_any_free_one(transport: OpenTransport):
    one = await transport({PORT: "0"})
    await one.listen()
    assert 1024 <= port_of(one) != 9000


async def test_an_exact_port_that_is_busy(transport: OpenTransport, busy: int):
    ((variable, value, problem),) = await wrong(await transport({PORT: str(busy)}))
    assert (variable, value) == (PORT, str(busy))
    assert "0 for any free one" in problem
    if sys.platform == "linux":
        assert f"process {os.getpid()} (" in problem


async def test_an_exact_port_is_free_again_after_the_end(transport: OpenTransport, busy: int):
    one = await transport()
    await one.listen()
    port = port_of(one)
    await one.aclose()
    another = await transport({PORT: str(port)})
    await another.listen()
    assert port_of(another) == port


@pytest.mark.parametrize("port", ["", "0", "9123"])
@pytest.mark.parametrize("host", ["192.0.2.77", "a..b", "x" * 70])
async def test_a_host_that_is_not_here(transport: OpenTransport, host: str, port: str):
    ((variable, value, problem),) = await wrong(await transport({HOST: host, PORT: port}))
    assert (variable, value) == (HOST, host)
    assert problem


@pytest.mark.parametrize("port", ["", "9123"])
async def test_a_host_that_nobody_knows(transport: OpenTransport, monkeypatch: pytest.MonkeyPatch, port: str):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    one = await transport({HOST: "nowhere.invalid", PORT: port})
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    problems = await wrong(one)
    ((variable, value, problem),) = problems
    assert (variable, value) == (HOST, "nowhere.invalid")
    assert "Name or service not known" in problem


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_ipv6(transport: OpenTransport, host: str):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    frontend, worker = await transport({HOST: host}), await transport()
    await frontend.listen()
    assert frontend.advertised == f"[::1]:{port_of(frontend)}"
    call = await Pair(frontend, worker).call()
    call.home.end()
    assert await call.rest() == [End()]


async def test_a_wildcard_is_never_advertised(transport: OpenTransport):
    one = await transport({HOST: "0.0.0.0"})
    await one.listen()
    assert not one.advertised.startswith("0.0.0.0")


async def test_the_advertised_host_may_be_another(transport: OpenTransport):
    frontend, worker = await transport({ADVERTISE: "localhost"}), await transport()
    await frontend.listen()
    assert frontend.advertised == f"localhost:{port_of(frontend)}"
    call = await Pair(frontend, worker).call()
    call.home.end()
    assert await call.rest() == [End()]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (PORT, "http"),
        (PORT, "65536"),
        (HOST, "http://x"),
        (ADVERTISE, "a b"),
        *((ADVERTISE, wildcard) for wildcard in ("0.0.0.0", "::", "0")),
    ],
)
async def test_values_that_cannot_be_read(transport: OpenTransport, variable: str, value: str):
    with pytest.raises(SettingsError, match=variable):
        await transport({**HERE, variable: value})
