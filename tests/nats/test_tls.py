"""TLS to the NATS server: its certificate, ours, and never less than what was asked for."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop
from reqplane.errors import SettingsError
from reqplane.model import NEVER
from servers import Nats

from . import certificates
from .certificates import Certificates
from .conftest import Worker, frame, opened, target_of, until

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates")

StartServer = Callable[..., Nats]


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.make(tmp_path_factory.mktemp("pem"))


@pytest.fixture
def server(tmp_path: Path, stack: AsyncExitStack, pem: Certificates) -> StartServer:
    """Starts a server with TLS; `more` is for that part of its configuration."""

    def start(more: str = "", whole: str = "") -> Nats:
        tls = f'tls {{ cert_file: "{pem.cert}", key_file: "{pem.key}", ca_file: "{pem.ca}", {more} }}'
        found = Nats(tmp_path / "server", config=f"{tls}\n{whole}").start()
        stack.callback(found.close)
        return found

    return start


async def a_request_goes_through(env: dict[str, str]) -> None:
    async with opened(env) as plane:
        here = await Worker(plane, plane.max_frame_bytes).listen()
        await plane.send(target_of(here.subject, plane), frame(b"x" * 500_000), {}, NEVER)
        assert here.bodies() == [b"x" * 500_000]
        wire = plane._link.wire
        assert wire is not None
        assert wire.transport is not None
        assert wire.transport.get_extra_info("cipher")


async def refused(env: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        async with asyncio.timeout(10), opened(env):
            pass
    return str(caught.value)


async def test_a_server_that_has_tls(server: StartServer, pem: Certificates) -> None:
    there = server()
    env = {"NATS_SERVER": there.url, "NATS_TLS_CA_CERT_PATH": str(pem.ca)}
    await a_request_goes_through(env)
    await a_request_goes_through({**env, "NATS_SERVER": there.url.replace("nats:", "tls:")})


def test_tls_on_uvloop(tmp_path: Path, pem: Certificates) -> None:
    tls = f'tls {{ cert_file: "{pem.cert}", key_file: "{pem.key}" }}'
    there = Nats(tmp_path / "server", config=tls).start()
    try:
        env = {"NATS_SERVER": there.url, "NATS_TLS_CA_CERT_PATH": str(pem.ca)}
        uvloop.run(a_request_goes_through(env))
    finally:
        there.close()


async def test_a_server_that_allows_both(server: StartServer, pem: Certificates) -> None:
    there = server(whole="allow_non_tls: true")
    env = {"NATS_SERVER": there.url, "NATS_TLS_CA_CERT_PATH": str(pem.ca)}
    await a_request_goes_through(env)


async def test_a_certificate_of_nobody_we_know(server: StartServer) -> None:
    there = server()
    for url in (there.url, there.url.replace("nats:", "tls:")):
        text = await refused({"NATS_SERVER": url})
        assert "certificate verify failed" in text.lower()
        assert "NATS_TLS_CA_CERT_PATH" in text


async def test_a_certificate_for_another_name(tmp_path: Path, stack: AsyncExitStack) -> None:
    other = certificates.make(tmp_path / "pem", "DNS:other.example")
    tls = f'tls {{ cert_file: "{other.cert}", key_file: "{other.key}" }}'
    there = Nats(tmp_path / "server", config=tls).start()
    stack.callback(there.close)
    text = await refused({"NATS_SERVER": there.url, "NATS_TLS_CA_CERT_PATH": str(other.ca)})
    assert "IP address mismatch" in text


async def test_our_certificate(server: StartServer, pem: Certificates) -> None:
    there = server("verify: true")
    env = {"NATS_SERVER": there.url, "NATS_TLS_CA_CERT_PATH": str(pem.ca)}
    mine = {
        "NATS_TLS_CLIENT_CERT_PATH": str(pem.client_cert),
        "NATS_TLS_CLIENT_KEY_PATH": str(pem.client_key),
    }
    await a_request_goes_through({**env, **mine})
    text = await refused(env)
    assert "NATS_TLS_CLIENT_CERT_PATH" in text


async def test_no_password_goes_to_a_server_without_tls(nats: Nats, stack: AsyncExitStack) -> None:
    """nats-py alone would go on in clear."""
    got: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.10.0","headers":true,"max_payload":1000}\r\n')
        got.append(await reader.read(1000))
        writer.close()

    plain = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = plain.sockets[0].getsockname()[1]
    text = await refused({"NATS_SERVER": f"tls://ann:secret@127.0.0.1:{port}"})
    assert "has no TLS" in text
    await until(lambda: got)
    assert got == [b""]
    plain.close()
    assert "has no TLS" in await refused({"NATS_SERVER": nats.url.replace("nats:", "tls:")})


async def test_a_server_with_tls_that_is_killed_and_back(
    server: StartServer, pem: Certificates, stack: AsyncExitStack
) -> None:
    there = server()
    env = {"NATS_SERVER": there.url, "NATS_TLS_CA_CERT_PATH": str(pem.ca)}
    plane = await stack.enter_async_context(opened(env))
    here = await Worker(plane, plane.max_frame_bytes).listen()
    there.kill()
    await until(lambda: plane._link.wire is None)
    there.start()
    await until(lambda: plane._link.wire is not None)
    await plane.send(target_of(here.subject, plane), frame(), {}, NEVER)


async def test_files_that_can_not_be_used(tmp_path: Path, pem: Certificates) -> None:
    (tmp_path / "junk").write_text("junk")
    locked = tmp_path / "locked.pem"
    certificates._openssl("ec", "-in", pem.client_key, "-aes128", "-passout", "pass:x", "-out", locked)
    cert, key = "NATS_TLS_CLIENT_CERT_PATH", "NATS_TLS_CLIENT_KEY_PATH"
    for env, words in (
        ({"NATS_TLS_CA_CERT_PATH": "/nowhere"}, "NATS_TLS_CA_CERT_PATH='/nowhere'"),
        ({"NATS_TLS_CA_CERT_PATH": str(tmp_path / "junk")}, "no certificates can be read"),
        ({cert: str(pem.client_cert)}, f"wanted {key} with it"),
        ({key: str(pem.client_key)}, f"wanted {cert} with it"),
        ({cert: str(pem.client_cert), key: "/nowhere"}, "No such file"),
        ({cert: str(pem.client_cert), key: str(pem.key)}, "can't be used"),
        ({cert: str(pem.client_cert), key: str(locked)}, "wanted one without"),
    ):
        assert words in await refused(env)
