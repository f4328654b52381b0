"""Messages and servers that mean no good."""

from __future__ import annotations

import asyncio
import json
import struct
from contextlib import AsyncExitStack

import pytest
from nats.aio.client import Client
from reqplane.errors import CannotConnect, RequestRefused, SettingsError, WorkerBusy
from reqplane.model import NEVER
from servers import Nats

from .conftest import OpenTransport, StartWorker, Worker, frame, opened, target_of, until

LYING = [
    b"",
    b"junk",
    b"\0" * 23,
    struct.pack(">QQQ", 2**63, 2**63, 0),
    struct.pack(">QQQ", 10, 10, 0) + b"short",
    struct.pack(">QQQ", 1, 1, 0) + b"too much",
    b"\xff" * 1_000_000,
    b"MSG x 1 5\r\nhello\r\n",
]


@pytest.mark.parametrize("payload", LYING, ids=range(len(LYING)))
async def test_junk_is_refused_and_does_no_harm(
    payload: bytes, worker: StartWorker, transport: OpenTransport, bare: Client
) -> None:
    here, frontend = await worker(), await transport()
    connection = here.transport._link.wire
    await bare.publish(here.subject, payload)
    await bare.publish(here.subject, payload, headers={"a": "b"})
    reply = await bare.request(here.subject, payload)
    assert reply.headers is not None
    assert reply.headers["x-reqplane-refusal"] == "invalid_frame"
    assert reply.data.startswith(b"Two Part Codec Error: Invalid message")
    await frontend.send(target_of(here.subject, frontend), frame(), {}, NEVER)
    assert here.transport._link.wire is connection
    assert here.bodies() == [b"hello"]


async def test_a_worker_asked_to_reply_to_itself(worker: StartWorker, bare: Client) -> None:
    here = await worker()
    await bare.publish(here.subject, b"junk", reply=here.subject)
    await bare.publish(here.subject, frame().join(), reply=here.subject)
    await until(lambda: here.got)
    await bare.request(here.subject, frame().join())
    name = f"{here.endpoint.namespace}_backend"
    stats = json.loads((await bare.request(f"$SRV.STATS.{name}", b"")).data)
    assert stats["endpoints"][0]["num_requests"] == 5


async def test_odd_headers(worker: StartWorker, nats: Nats) -> None:
    """Bytes that no client library would send."""
    here = await worker()
    reader, writer = await asyncio.open_connection("127.0.0.1", nats.port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    blocks = [
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\n: no name\r\n\r\n",
        b"NATS/1.0\r\ntraceparent: \xff\xfe\r\n\r\n",
        b"NATS/1.0\r\nrequest-id: 1\r\nREQUEST-ID: 2\r\n\r\n",
        b"NATS/1.0 503\r\n\r\n",
        b"NATS/1.0\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
        b"junk",
    ]
    body = frame().join()
    for block in blocks:
        sizes = b"%d %d" % (len(block), len(block) + len(body))
        writer.write(b"HPUB %s %s\r\n%s%s\r\n" % (here.subject.encode(), sizes, block, body))
    await writer.drain()
    await until(lambda: len(here.got) == len(blocks))
    assert here.got[4].headers == {"request-id": "1"}
    writer.close()
    await writer.wait_closed()


async def test_a_flood_of_service_questions(
    worker: StartWorker, transport: OpenTransport, bare: Client
) -> None:
    here, frontend = await worker(), await transport()
    for _ in range(2000):
        await bare.publish("$SRV.PING", b"", reply="nobody.cares")
        await bare.publish("$SRV.STATS", b"x" * 100)
    await frontend.send(target_of(here.subject, frontend), frame(), {}, NEVER)


async def test_replies_that_nobody_waits_for(transport: OpenTransport, bare: Client) -> None:
    frontend = await transport()
    inbox = frontend._asking.inbox
    for token in ("1", "0", "ffff", "x.y", "-1"):
        await bare.publish(f"{inbox}{token}", b"junk", headers={"x-reqplane-refusal": "busy"})
    await bare.flush()
    await asyncio.sleep(0.05)
    assert frontend._link.wire is not None


async def test_a_burst_of_ten_thousand_frames(worker: StartWorker, bare: Client) -> None:
    """None is dropped, whatever the client library's limits are."""
    here = await worker()
    body = frame(b"x" * 2000).join()
    for _ in range(10_000):
        await bare.publish(here.subject, body)
    await bare.flush()
    await until(lambda: len(here.got) == 10_000, 30)


# ── servers ─────────────────────────────────────────────────────────────────────────────────────────

INFO = b'INFO {"server_id":"x","version":"2.10.0","headers":true,"max_payload":1048576}\r\n'


async def scripted(stack: AsyncExitStack, after: bytes, info: bytes = INFO) -> str:
    """A server that logs anybody in and then writes these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(info)
        subscribed = False
        try:
            while line := await reader.readline():
                if line == b"PING\r\n":
                    writer.write(b"PONG\r\n")
                    if subscribed:
                        writer.write(after)
                elif line.startswith(b"SUB "):
                    subscribed = True
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stack.callback(server.close)
    return f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    "after",
    [
        b"JUNK\r\n",
        b"MSG\r\n",
        b"MSG a 1 x\r\n",
        b"MSG a 1 -5\r\n",
        b"MSG a 1 -100\r\n",
        b"HMSG a 1 -5 5\r\nhello\r\n",
        b"HMSG a 1 50 5\r\nhello\r\n",
        b"MSG a 1 99999999999999\r\n",
        b"INFO junk\r\n",
        b"-ERR\r\n",
        b"-ERR 'what is this'\r\n",
        b"PONG\r\n" * 100,
        b"x" * 2_000_000,
    ],
)
async def test_a_server_that_sends_junk(
    after: bytes, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not hang, nor leave anything behind: the end of the test looks."""
    monkeypatch.setattr("reqplane_nats.transport._OPEN_PATIENCE", 0.5)
    url = await scripted(stack, after)
    async with opened({"NATS_SERVER": url, "DYN_NATS_REQUEST_TIMEOUT_SECS": "0.2"}) as plane:
        with pytest.raises(Exception, match=r"(?s)."):
            await plane.send(target_of("a.b-1", plane), frame(), {}, NEVER)


@pytest.mark.parametrize("info", [b"INFO [1]\r\n", b"INFO x\r\n", b"HTTP/1.1 400 Bad\r\n\r\n", b"\r\n"])
async def test_a_server_that_is_none(
    info: bytes, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reqplane_nats.transport._OPEN_PATIENCE", 0.5)
    url = await scripted(stack, b"", info)
    async with opened({"NATS_SERVER": url}) as plane:
        with pytest.raises(CannotConnect):
            await plane.send(target_of("a.b-1", plane), frame(), {}, NEVER)


async def test_a_server_of_long_ago(stack: AsyncExitStack) -> None:
    url = await scripted(stack, b"", b'INFO {"server_id":"x","version":"2.1.9","max_payload":1048576}\r\n')
    with pytest.raises(SettingsError, match=r"knows no headers: .* 2\.2 or later"):
        async with opened({"NATS_SERVER": url}):
            pass


async def test_a_tiny_max_payload(tmp_path_factory: pytest.TempPathFactory, stack: AsyncExitStack) -> None:
    """Refusals and descriptions fit too, or are left out: the connection lives."""
    server = Nats(tmp_path_factory.mktemp("tiny"), config="max_payload: 600").start()
    stack.callback(server.close)
    plane = await stack.enter_async_context(opened({"NATS_SERVER": server.url}))
    connection = plane._link.wire
    here = await Worker(plane, plane.max_frame_bytes).listen()
    target = target_of(here.subject, plane)
    await plane.send(target, frame(), {}, NEVER)
    here.refuse = ValueError("x")
    with pytest.raises(RequestRefused):
        await plane.send(target, frame(), {}, NEVER)
    here.refuse = WorkerBusy("b" * 5000)
    with pytest.raises(WorkerBusy):
        await plane.send(target, frame(), {}, NEVER)
    assert plane._link.wire is connection
