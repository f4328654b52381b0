"""Call-homes that can't be: always CannotConnect, with the address."""

from __future__ import annotations

import asyncio
import gc
import socket
from dataclasses import replace

import pytest
import reqplane_tcp_stream.dial
from reqplane.errors import CannotConnect
from reqplane.model import ConnectionInfo, SharedOffer

from .conftest import OpenTransport, Pair, until
from .scripted import RawFrontend

SUBJECT = "551d0fbf-0000-4000-8000-000000000000"
OFFER = SharedOffer("0" * 32, 1000)


def info_for(address: str, subject: str = SUBJECT) -> ConnectionInfo:
    return ConnectionInfo(address, subject, "r", OFFER)


async def failed(transport: OpenTransport, info: ConnectionInfo) -> CannotConnect:
    worker = await transport()
    with pytest.raises(CannotConnect) as caught:
        await worker.call_home(info, lambda control: None)
    assert caught.value.address == info.address
    assert caught.value.transport == "tcp_stream"
    assert caught.value.problem
    return caught.value


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nonsense",
        "host:",
        ":9000",
        "[]:9000",
        "host:99999",
        "host:0",
        "host:-1",
        "host:9_000",
        "host:٣",
        "host:" + "9" * 5000,
        "127.0.0.1:http",
    ],
)
async def test_an_address_that_is_none(transport: OpenTransport, address: str):
    assert "host:port" in (await failed(transport, info_for(address))).problem


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "nul\0nul", "\udcff", "[::1", "a b"])
async def test_a_host_that_cannot_be_resolved(
    transport: OpenTransport, host: str, monkeypatch: pytest.MonkeyPatch
):
    lookup = socket.getaddrinfo

    def local_only(name: object, *rest: object, **more: object) -> object:
        if name in ("[::1", "a b"):  # well formed, so a name server would be asked
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return lookup(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", local_only)
    await failed(transport, info_for(f"{host}:9000"))


async def test_nobody_listens(transport: OpenTransport):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error = await failed(transport, info_for(f"127.0.0.1:{port}"))
    assert f"127.0.0.1:{port}" in str(error)


@pytest.mark.parametrize("subject", ["", "not-a-uuid", SUBJECT[:-1], SUBJECT + "00", "ä" * 32])
async def test_a_subject_that_is_none(pair: Pair, subject: str):
    info = replace(pair.frontend.expect("r").info, subject=subject)
    with pytest.raises(CannotConnect, match="not a uuid"):
        await pair.worker.call_home(info, lambda control: None)


async def test_a_subject_may_be_written_without_dashes(pair: Pair):
    pending = pair.frontend.expect("r")
    info = replace(pending.info, subject=pending.info.subject.replace("-", "").upper())
    await pair.worker.call_home(info, lambda control: None)
    await asyncio.wait_for(pending.opened, 5)


async def test_a_frontend_that_never_answers(transport: OpenTransport, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reqplane_tcp_stream.dial, "CONNECT_TIME", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        error = await failed(transport, info_for(f"127.0.0.1:{server.getsockname()[1]}"))
    assert error.problem == "no answer within 0.1 s"


async def test_a_frontend_that_hangs_up(transport: OpenTransport):
    worker = await transport()
    async with RawFrontend.listening() as frontend:
        calling = asyncio.create_task(worker.call_home(frontend.info(), lambda control: None))
        await (await frontend.accept()).aclose()
        with pytest.raises(CannotConnect, match="closed the connection"):
            await calling
        assert not worker._homes._connecting


async def test_a_failed_connect_is_not_remembered(transport: OpenTransport):
    worker = await transport()
    async with RawFrontend.listening() as frontend:
        calling = asyncio.create_task(worker.call_home(frontend.info(), lambda control: None))
        await (await frontend.accept()).aclose()
        await asyncio.wait([calling])
        assert isinstance(calling.exception(), CannotConnect)
        calling = asyncio.create_task(worker.call_home(frontend.info(), lambda control: None))
        await frontend.welcome()
        await calling


async def test_a_failure_that_nobody_waits_for_is_not_complained_about(
    transport: OpenTransport, caplog: pytest.LogCaptureFixture
):
    worker = await transport()
    async with RawFrontend.listening() as frontend:
        calling = asyncio.create_task(worker.call_home(frontend.info(), lambda control: None))
        peer = await frontend.accept()
        calling.cancel()
        await asyncio.wait([calling])
        assert calling.cancelled()
        await peer.aclose()
        await until(lambda: not worker._homes._connecting)
    del calling
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_closing_ends_call_homes_that_are_under_way(transport: OpenTransport):
    worker = await transport()
    async with RawFrontend.listening() as frontend:
        calls = [
            asyncio.create_task(worker.call_home(frontend.info(), lambda control: None)) for _ in range(2)
        ]
        peer = await frontend.accept()
        await peer.opening()
        await worker.aclose()
        for call in calls:
            with pytest.raises(CannotConnect, match="leaving"):
                await call
        await peer.closed()
        with pytest.raises(CannotConnect, match="leaving"):
            await worker.call_home(frontend.info(), lambda control: None)
