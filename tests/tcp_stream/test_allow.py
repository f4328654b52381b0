"""A request says where to call home, and anybody may have written it: who is dialled, and who never."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import reqplane_tcp_stream.dial
from reqplane.errors import CannotConnect, SettingsError
from reqplane.model import ConnectionInfo, SharedOffer
from reqplane.settings import load
from reqplane.wire import shared
from reqplane_tcp_stream.allow import networks, why_not
from reqplane_tcp_stream.settings import TcpStreamSettings

from .conftest import OpenTransport, opened, until
from .scripted import RawFrontend

OFFER = SharedOffer("ab" * 16, 1000)
WELCOME = shared.welcome(1000)


# ── the rule ──

NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "255.255.255.255",
    "224.0.0.1",
    "239.255.255.250",
    "::",
    "::ffff:0.0.0.0",
    "ff02::1",
    "ff02::1%eth0",
    "::ffff:224.0.0.1",
]
NOT_BY_DEFAULT = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.0.1",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "64:ff9b::169.254.169.254",
    "fe80::1",
    "fe80::1%3",
    "fe80::a9fe:a9fe%eth0",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
]
BY_DEFAULT = [
    "127.0.0.1",
    "127.8.9.10",
    "::1",
    "::ffff:127.0.0.1",
    "10.0.0.1",
    "172.17.0.2",
    "192.168.1.7",
    "100.64.0.1",
    "8.8.8.8",
    "fd12:3456::1",
    "2001:db8::1",
    "169.253.255.255",
    "169.255.0.0",
]


@pytest.mark.parametrize("host", NEVER)
@pytest.mark.parametrize("allowed", [None, networks("0.0.0.0/0,::/0")])
def test_nobodys_addresses_are_never_allowed(host: str, allowed: Any):
    assert "no frontend can have that address" in str(why_not(host, 9000, allowed))


@pytest.mark.parametrize("host", NOT_BY_DEFAULT)
def test_metadata_and_link_local_only_by_name(host: str):
    assert "DYN_RESPONSE_ALLOW" in str(why_not(host, 9000, None))
    assert why_not(host, 9000, networks("0.0.0.0/0,::/0")) is None


@pytest.mark.parametrize("host", BY_DEFAULT)
def test_everything_else_by_default(host: str):
    assert why_not(host, 9000, None) is None
    assert why_not(host, 1024, None) is None
    assert why_not(host, 1023, None) is not None
    assert why_not(host, 22, networks("0.0.0.0/0,::/0")) is not None


@pytest.mark.parametrize(
    ("value", "host", "allowed"),
    [
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
        ("10.0.0.0/8", "::1", False),
        ("10.0.0.0/8", "127.0.0.1", False),
        (" 10.0.0.0/8 , fd12::/48 ,", "fd12::5", True),
        ("192.168.1.7", "192.168.1.7", True),
        ("192.168.1.7", "192.168.1.8", False),
        ("fe80::/10", "fe80::1%3", True),
        ("169.254.0.0/16", "169.254.169.254", True),
    ],
)
def test_a_list_of_networks_is_all_that_is_allowed(value: str, host: str, allowed: bool):
    assert (why_not(host, 9000, networks(value)) is None) == allowed


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("localhost", "no network"),
        ("10.0.0.0/33", "no network"),
        ("10.0.0", "no network"),
        ("10.0.0.0/8;fd12::/48", "no network"),
        ("all", "no network"),
        (",", "no network"),
        ("10.0.0.0/8,,10.1", "'10.1' is no network"),
        ("10.1.2.3/8", "did you mean 10.0.0.0/8"),
        ("fd12::1/48", "did you mean fd12::/48"),
        ("::ffff:10.0.0.0/104", "written as IPv6"),
    ],
)
def test_values_that_are_none(value: str, problem: str):
    with pytest.raises(SettingsError, match="DYN_RESPONSE_ALLOW") as caught:
        load(TcpStreamSettings, {"DYN_RESPONSE_ALLOW": value})
    assert problem in str(caught.value)


# ── what is dialled ──


@pytest.fixture
async def frontend() -> AsyncIterator[RawFrontend]:
    """Listens on 127.0.0.1."""
    async with RawFrontend.listening() as one:
        yield one


def port_of(frontend: RawFrontend) -> int:
    return int(frontend.address.rpartition(":")[2])


async def refused(worker: Any, info: ConnectionInfo, text: str) -> None:
    with pytest.raises(CannotConnect, match=text) as caught:
        await worker.call_home(info, lambda control: None)
    assert caught.value.address == info.address


@pytest.fixture(params=["shared", "single"])
def form(request: pytest.FixtureRequest) -> SharedOffer | None:
    return OFFER if request.param == "shared" else None


LOOPBACK = ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "017700000001", "localhost", "[::ffff:127.0.0.1]"]
"""One address, as many ways as the system reads it."""


@pytest.mark.parametrize("host", LOOPBACK)
async def test_no_spelling_gets_around_the_rule(
    transport: OpenTransport, frontend: RawFrontend, form: SharedOffer | None, host: str
):
    worker = await transport({"DYN_RESPONSE_ALLOW": "10.0.0.0/8,fd12::/48"})
    info = replace(frontend.single(), address=f"{host}:{port_of(frontend)}", shared=form)
    await refused(worker, info, "may not call home to .*DYN_RESPONSE_ALLOW")
    await asyncio.sleep(0.02)
    assert frontend.all == []  # not even a connection


@pytest.mark.parametrize("host", ["0.0.0.0", "0", "0x0", "[::]", "[::ffff:0.0.0.0]"])
async def test_the_unspecified_address_is_not_this_machine(
    transport: OpenTransport, frontend: RawFrontend, host: str
):
    worker = await transport()
    info = replace(frontend.single(), address=f"{host}:{port_of(frontend)}")
    await refused(worker, info, "no frontend can have that address")
    assert frontend.all == []


@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376"])
async def test_metadata_is_not_dialled_by_default(
    transport: OpenTransport, monkeypatch: pytest.MonkeyPatch, host: str
):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was dialled")

    worker = await transport()
    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)
    await refused(worker, ConnectionInfo(f"{host}:9000", "x", "r"), "169.254.169.254; .*DYN_RESPONSE_ALLOW")
    await refused(worker, ConnectionInfo("127.0.0.1:80", "x", "r"), "below 1024")


class Names:
    """A name server that answers something else each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.asked = 0
        self._answers = answers
        self._system = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host != "frontend.example":
            return self._system(host, port, *rest, **more)
        if (more.get("flags") or 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        addresses = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        return [found for one in addresses for found in self._system(one, port, type=socket.SOCK_STREAM)]


async def test_of_a_name_only_the_allowed_addresses_are_dialled(
    transport: OpenTransport, frontend: RawFrontend, monkeypatch: pytest.MonkeyPatch
):
    worker = await transport()
    names = Names(monkeypatch, ["169.254.169.254", "0.0.0.0", "127.0.0.1"])
    dialled: list[str] = []
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def noting(make: Any, host: str, *rest: Any) -> Any:
        dialled.append(host)
        return await connect(make, host, *rest)

    monkeypatch.setattr(loop, "create_connection", noting)
    info = replace(frontend.single(), address=f"frontend.example:{port_of(frontend)}")
    await worker.call_home(info, lambda control: None)
    await frontend.accept_single()
    assert dialled == ["127.0.0.1"]
    assert names.asked == 1


async def test_a_name_that_changes_its_mind_is_asked_once(
    transport: OpenTransport, frontend: RawFrontend, monkeypatch: pytest.MonkeyPatch
):
    worker = await transport({"DYN_RESPONSE_ALLOW": "127.0.0.2"})
    names = Names(monkeypatch, ["127.0.0.2"], ["127.0.0.1"])
    info = replace(frontend.single(), address=f"frontend.example:{port_of(frontend)}")
    await refused(worker, info, "refused")  # nobody listens at 127.0.0.2, and only that was tried
    assert names.asked == 1
    await refused(worker, info, r"may not call home to 127.0.0.1; ")
    assert frontend.all == []


async def test_the_next_allowed_address_is_tried(
    transport: OpenTransport, frontend: RawFrontend, monkeypatch: pytest.MonkeyPatch
):
    worker = await transport()
    Names(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    info = replace(frontend.single(), address=f"frontend.example:{port_of(frontend)}")
    await worker.call_home(info, lambda control: None)
    await frontend.accept_single()


# ── few at a time ──


async def test_more_than_64_that_do_not_answer_are_refused(transport: OpenTransport, frontend: RawFrontend):
    """Addresses count, not requests: what comes for one that is being tried joins in."""
    worker = await transport()
    infos = [replace(frontend.info(), shared=SharedOffer(f"{n:032x}", 1000)) for n in range(65)]
    calls = [asyncio.create_task(worker.call_home(info, lambda control: None)) for info in infos[:64]]
    await until(lambda: len(frontend.all) == 64)
    await refused(worker, infos[64], "64 other frontends have not answered yet")
    await refused(worker, frontend.single(), "64 other frontends have not answered yet")
    joined = asyncio.create_task(worker.call_home(infos[0], lambda control: None))
    peers = [await frontend.accept() for _ in range(64)]
    for peer in peers:
        await peer.opening()
        peer.raw(WELCOME)
    await asyncio.gather(*calls, joined)
    assert len(frontend.all) == 64
    again = asyncio.create_task(worker.call_home(infos[64], lambda control: None))  # there is room again
    await (await frontend.accept()).opening()
    frontend.all[-1].raw(WELCOME)
    await again


async def test_silent_targets_free_their_places_in_time(
    transport: OpenTransport, frontend: RawFrontend, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reqplane_tcp_stream.dial, "CONNECT_TIME", 0.5)
    monkeypatch.setattr(reqplane_tcp_stream.dial, "_MAX_UNPROVEN", 3)
    worker = await transport()
    infos = [replace(frontend.info(), shared=SharedOffer(f"{n:032x}", 1000)) for n in range(4)]
    calls = [asyncio.create_task(worker.call_home(info, lambda control: None)) for info in infos[:3]]
    await until(lambda: len(frontend.all) == 3)
    await refused(worker, infos[3], "3 other frontends")
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert all("no answer within 0.5 s" in str(error) for error in errors)
    calling = asyncio.create_task(worker.call_home(infos[3], lambda control: None))
    await until(lambda: len(frontend.all) == 4)
    calling.cancel()


async def test_many_streams_to_one_frontend_are_one_target(transport: OpenTransport, frontend: RawFrontend):
    worker = await transport()
    calls = [worker.call_home(frontend.single(), lambda control: None) for _ in range(150)]
    await asyncio.gather(*calls)
    assert len(worker._homes._singles) == 150


async def test_slow_lookups_do_not_take_the_threads_of_handlers(
    transport: OpenTransport, monkeypatch: pytest.MonkeyPatch
):
    worker = await transport()
    system, asked, answered = socket.getaddrinfo, threading.Event(), threading.Event()

    def slow(host: Any, *rest: Any, **more: Any) -> Any:
        if not str(host).endswith(".example"):
            return system(host, *rest, **more)
        if not more.get("flags"):
            asked.set()
            answered.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    infos = [ConnectionInfo(f"frontend{n}.example:9000", "x", "r") for n in range(64)]
    calls = [asyncio.create_task(worker.call_home(info, lambda control: None)) for info in infos]
    await until(asked.is_set)
    try:
        async with asyncio.timeout(10):
            await asyncio.to_thread(time.monotonic)
    finally:
        answered.set()
    assert all(isinstance(one, CannotConnect) for one in await asyncio.gather(*calls, return_exceptions=True))


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("127.0.0.1:9000", None),
        ("127.0.0.1:80", "ports below 1024"),
        ("169.254.169.254:9000", "DYN_RESPONSE_ALLOW"),
        ("[::ffff:169.254.169.254]:9000", "DYN_RESPONSE_ALLOW"),
        ("224.0.0.1:9000", "no frontend can have that address"),
        ("frontend.example:9000", None),
        ("nonsense", None),
    ],
)
async def test_what_is_known_to_be_forbidden_is_refused_before_the_ack(
    address: str, refused: str | None
) -> None:
    """A name is looked up, and checked, when it is called."""
    async with opened() as transport:
        objection = transport.objection(ConnectionInfo(address, "subject", "id"))
        assert objection is None if refused is None else refused in str(objection)
