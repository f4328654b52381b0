"""A worker against frontends that write by hand: what it takes, what it answers, what it leaves behind."""

from __future__ import annotations

import asyncio
import json

import pytest
from ports import free_port
from reqplane.errors import (
    CannotConnect,
    NotAllowed,
    RequestRefused,
    SettingsError,
    WorkerBusy,
    WorkerDraining,
    refusal,
)
from reqplane.model import NEVER, EndpointId
from reqplane_tcp.answers import GOODBYE, verdict

from .conftest import ENDPOINT, INCARNATION, PATH, OpenTransport, StartWorker, frame, target_of, until
from .scripted import ACK, RawFrontend, message, old_message, recorded

MIB = 1 << 20
BY_0_9 = b'{"x-endpoint-path":"%s"}' % PATH.encode()
BY_1_6 = b'{"x-endpoint-path":"%s","request-id":"r","x-frontend-send-ts-ns":"1795"}' % PATH.encode()


def heard(answer: str) -> RequestRefused:
    error = verdict(answer.encode(), 1, "here")
    assert isinstance(error, RequestRefused)
    return error


# ── requests ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_request_is_accepted_then_acked(worker: StartWorker):
    here = await worker()
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message(headers=b'{"Traceparent":"00-1","x-y":"z"}'))
        assert await peer.answer() == ""
        (delivery,) = here.got
        assert delivery.headers == {"traceparent": "00-1"}
        assert delivery.plane == "tcp"
        assert delivery.peer is not None
        assert delivery.peer.address.startswith("127.0.0.1:")
        assert here.bodies() == [b"hello"]


@pytest.mark.parametrize("name", ["request, Dynamo 0.9.1", "request, Dynamo 1.6.1"])
async def test_what_dynamos_clients_send(name: str, worker: StartWorker):
    here = await worker()
    found = recorded(name)
    ours = message(found["frame"], headers=found["headers"].encode())
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(ours + ours)
        assert [await peer.answer() for _ in range(2)] == ["", ""]
    identity = json.loads(found["headers"]).get("request-id")
    assert here.got[0].headers == ({} if identity is None else {"request-id": identity})


async def test_what_dynamo_0_7_sends(worker: StartWorker):
    """Its form has no headers, and the connection tells which form it has."""
    here = await worker()
    payload = recorded("request, Dynamo 0.7.1")["frame"]
    async with RawFrontend.connected(here.port) as old, RawFrontend.connected(here.port) as new:
        await old.send(old_message(payload, path=PATH))
        await new.send(message())
        assert [await old.answer(), await new.answer()] == ["", ""]
    assert here.got[0].headers == {}


async def test_answers_come_in_the_order_of_the_requests(worker: StartWorker):
    here = await worker()
    large = frame(bytes(MIB)).join()
    async with RawFrontend.connected(here.port) as peer:
        sent = [
            message(),
            message(path="1f/x"),
            message(large),
            message(b"junk"),
            message(headers=b"{"),
            message(),
        ]
        await peer.send(b"".join(sent))
        answers = [await peer.answer() for _ in sent]
        codes = [answer and heard(answer).code for answer in answers]
        assert codes == ["", "unknown_endpoint", "", "invalid_frame", "invalid_frame", ""]
        assert "unknown endpoint 1f/x" in answers[1]
        assert "Two Part Codec Error: Invalid message: a frame has at least 24 bytes" in answers[3]
        assert "the headers are not JSON" in answers[4]


async def test_acks_of_one_read_go_out_together(worker: StartWorker):
    here = await worker()
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message() * 100)
        assert await peer.exactly(400) == ACK * 100
    assert len(here.got) == 100


@pytest.mark.parametrize(
    "error",
    [WorkerBusy("too much"), WorkerDraining("leaving"), NotAllowed("no"), refusal("moon_phase", "full")],
    ids=lambda error: error.code,
)
async def test_a_refusal_has_its_code(error: RequestRefused, worker: StartWorker):
    here = await worker()
    here.refuse = error
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message())
        found = heard(await peer.answer())
        assert (type(found), found.code, found.problem) == (type(error), error.code, error.problem)
        here.refuse = None
        await peer.send(message())
        assert await peer.answer() == ""


@pytest.mark.parametrize("error", [RuntimeError("a defect"), asyncio.CancelledError()], ids=repr)
async def test_a_defect_of_accept(
    error: BaseException, worker: StartWorker, caplog: pytest.LogCaptureFixture
):
    here = await worker()
    here.refuse = error
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message())
        assert heard(await peer.answer()).code == "refused"
        here.refuse = None
        await peer.send(message())
        assert await peer.answer() == ""
    assert "accepting a request" in caplog.text


# ── who does not read refusals ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "bad",
    [old_message(path="nope"), message(path="nope", headers=BY_0_9), message(b"junk", headers=BY_0_9)],
    ids=["0.7", "0.9", "0.9, junk"],
)
async def test_older_clients_of_dynamo_take_any_text_for_an_ack(bad: bytes, worker: StartWorker):
    """So a refusal ends their connection: what came before is acked, what comes behind is not looked at."""
    here = await worker()
    good = old_message(path=PATH) if bad.startswith(b"\0\x04nope\0\0") else message(headers=BY_0_9)
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(good + good + bad + good)
        assert await peer.rest() == ACK * 2
    assert len(here.got) == 2


async def test_newer_ones_read_it(worker: StartWorker):
    here = await worker()
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message(path="nope", headers=BY_1_6) + message(headers=BY_1_6))
        assert (await peer.answer()).startswith("Server unavailable: unknown endpoint nope")
        assert await peer.answer() == ""


# ── endpoints and addresses ─────────────────────────────────────────────────────────────────────────


async def test_the_record(worker: StartWorker):
    here = await worker()
    assert here.record == f"127.0.0.1:{here.port}/{PATH}"
    assert here.listener.record(7) == here.listener.record(0)


async def test_what_is_told_of_the_address(worker: StartWorker):
    told = await worker({"DYN_TCP_RPC_ADVERTISE_HOST": "outside:8082"})
    assert told.record == f"outside:8082/{PATH}"
    port = free_port()
    fixed = await worker({"DYN_TCP_RPC_PORT": str(port), "DYN_TCP_RPC_ADVERTISE_HOST": "outside"})
    assert fixed.record == f"outside:{port}/{PATH}"


async def test_the_path_names_one_worker(worker: StartWorker):
    """A frontend that knows another one, which had this address before, is refused."""
    here = await worker()
    other = f"{INCARNATION - 1:x}/default/backend/generate"
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message(path=other))
        assert heard(await peer.answer()).code == "unknown_endpoint"


async def test_one_endpoint_is_served_once(worker: StartWorker):
    here = await worker()
    with pytest.raises(ValueError, match=r"already serves default\.backend\.generate"):
        await here.listen()


async def test_a_port_that_is_taken(worker: StartWorker, transport: OpenTransport):
    here = await worker()
    other = await transport({"DYN_TCP_RPC_PORT": str(here.port)})
    with pytest.raises(SettingsError, match=r"DYN_TCP_RPC_PORT.*is taken by process"):
        await here.__class__(other).listen()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DYN_TCP_RPC_HOST", "http://x"),
        ("DYN_TCP_RPC_PORT", "-1"),
        ("DYN_TCP_RPC_ADVERTISE_HOST", "0.0.0.0"),
        ("DYN_TCP_REQUEST_TIMEOUT", "0"),
        ("DYN_TCP_CONNECT_TIMEOUT", "soon"),
        ("DYN_TCP_HOST_IDLE_TTL_SECS", "-1"),
        ("DYN_TCP_TLS_CERT_PATH", "/etc/tls/worker.pem"),
        ("DYN_TCP_TLS_CA_CERT_PATH", "/etc/tls/ca.pem"),
    ],
)
async def test_wrong_settings(variable: str, value: str, transport: OpenTransport):
    with pytest.raises(SettingsError, match=variable):
        await transport({variable: value})


# ── leaving ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_worker_that_closes_says_goodbye(worker: StartWorker):
    """And looks at nothing more; it waits for the other side to close, so that nothing it said is lost."""
    here = await worker()
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message())
        assert await peer.answer() == ""
        closing = asyncio.ensure_future(here.listener.close())
        assert await peer.answer() == GOODBYE.decode()
        await peer.send(message())
        assert await peer.rest() == b""
        assert not closing.done()
        peer.writer.transport.abort()
        await closing
    assert len(here.got) == 1


async def test_it_does_not_wait_for_ever(worker: StartWorker):
    here = await worker()
    async with RawFrontend.connected(here.port) as peer, RawFrontend.connected(here.port):
        await peer.send(message()[:-1])
        await until(lambda: len(here.transport._server._connections) == 2)  # type: ignore[union-attr]
        began = asyncio.get_running_loop().time()
        await here.listener.close()
        assert asyncio.get_running_loop().time() - began < 5


@pytest.mark.parametrize(
    "first", [b"", old_message(path=PATH), message(headers=BY_0_9)], ids=["none", "0.7", "0.9"]
)
async def test_no_goodbye_for_who_would_take_it_for_an_ack(first: bytes, worker: StartWorker):
    here = await worker()
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(first)
        if first:
            assert await peer.answer() == ""
        await until(lambda: here.transport._server._connections)  # type: ignore[union-attr]
        closing = asyncio.ensure_future(here.listener.close())
        assert await peer.rest() == b""
        peer.writer.transport.abort()
        await closing


async def test_a_frontend_knows_what_a_worker_that_closes_has_accepted(
    worker: StartWorker, transport: OpenTransport
):
    port = free_port()
    frontend = await transport()
    first = await worker({"DYN_TCP_RPC_PORT": str(port)})
    target = target_of(first.record, frontend)
    outcomes: list[BaseException | None] = []
    for number in range(20):
        sends = [frontend.send(target, frame(b"%d" % number), {}, NEVER) for _ in range(50)]
        if number == 10:
            await first.listener.close()
        outcomes += await asyncio.gather(*sends, return_exceptions=True)
    second = await worker({"DYN_TCP_RPC_PORT": str(port)})
    outcomes.append(await frontend.send(target, frame(), {}, NEVER))
    assert outcomes.count(None) == len(first.got) + len(second.got) > 500
    assert {type(one) for one in outcomes if one is not None} == {CannotConnect}


async def test_the_others_stay(worker: StartWorker):
    here = await worker()
    other = await here.__class__(here.transport).listen(EndpointId("default", "backend", "other"))
    assert other.port == here.port
    await other.listener.close()
    async with RawFrontend.connected(here.port) as peer:
        await peer.send(message(path=PATH.replace("generate", "other")) + message())
        assert heard(await peer.answer()).code == "unknown_endpoint"
        assert await peer.answer() == ""
    assert ENDPOINT.name == "generate"
