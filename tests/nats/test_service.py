"""The worker's side as NATS sees it: subject, queue group, micro service."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError
from reqplane.errors import UnknownEndpoint, WorkerBusy
from reqplane.interfaces import Delivery
from reqplane.model import NEVER, EndpointId, Served
from servers import Nats

from .conftest import OpenTransport, StartWorker, Worker, frame, target_of


async def ask(bare: Client, subject: str) -> dict[str, Any]:
    return json.loads((await bare.request(subject, b"", timeout=10)).data)


async def test_the_record_is_the_whole_subject(transport: OpenTransport) -> None:
    plane = await transport()
    served = Served(EndpointId("default", "backend", "generate"), 0x694DA20A230D2206, 0, "")
    listener = await plane.listen(served, lambda delivery: None)
    assert listener.record(5) == {"nats_tcp": "default_backend.generate-694da20a230d2206"}


async def test_the_queue_group_is_q(worker: StartWorker, nats: Nats) -> None:
    here = await worker()
    page: Any = nats.ask("connz?subs=detail")
    found = [one for conn in page["connections"] for one in conn.get("subscriptions_list_detail", ())]
    assert [one["qgroup"] for one in found if one["subject"] == here.subject] == ["q"]


async def test_an_ack_is_an_empty_reply_without_headers(worker: StartWorker, bare: Client) -> None:
    here = await worker()
    reply = await bare.request(here.subject, frame().join())
    assert (reply.data, reply.headers) == (b"", None)


async def test_a_refusal_on_the_wire(worker: StartWorker, bare: Client) -> None:
    here = await worker()
    here.refuse = WorkerBusy("full")
    reply = await bare.request(here.subject, frame().join())
    assert reply.headers == {
        "x-reqplane-refusal": "busy",
        "Nats-Service-Error": "the worker refused the request (busy): full",
        "Nats-Service-Error-Code": "503",
    }
    assert reply.data == b"the worker refused the request (busy): full"


async def test_a_refusal_that_dynamos_clients_notice(
    worker: StartWorker, bare: Client, transport: OpenTransport
) -> None:
    """They take any other reply for the ack; ours still get its code and words."""
    here, frontend = await worker({"DYN_WIRE_PROFILE": "dynamo"}), await transport()
    here.refuse = WorkerBusy("full")
    with pytest.raises(NoRespondersError):
        await bare.request(here.subject, frame().join())
    with pytest.raises(WorkerBusy, match="full"):
        await frontend.send(target_of(here.subject, frontend), frame(), {}, NEVER)


async def test_ping_info_and_stats(worker: StartWorker, bare: Client, transport: OpenTransport) -> None:
    """Statement 53."""
    here, frontend = await worker(), await transport()
    namespace = here.endpoint.namespace
    name, endpoint = f"{namespace}_backend", f"{namespace}_backend-generate-{here.incarnation:x}"
    ping = await ask(bare, f"$SRV.PING.{name}")
    assert ping["type"] == "io.nats.micro.v1.ping_response"
    assert (ping["name"], ping["version"], ping["metadata"]) == (name, "0.1.0", {})
    info = await ask(bare, f"$SRV.INFO.{name}.{ping['id']}")
    assert info["type"] == "io.nats.micro.v1.info_response"
    assert info["endpoints"] == [
        {"name": endpoint, "subject": here.subject, "queue_group": "q", "metadata": {}}
    ]
    for _ in range(3):
        await frontend.send(target_of(here.subject, frontend), frame(), {}, NEVER)
    here.refuse = WorkerBusy("full")
    await bare.request(here.subject, b"junk")
    stats = await ask(bare, f"$SRV.STATS.{name}")
    assert stats["type"] == "io.nats.micro.v1.stats_response"
    (counted,) = stats["endpoints"]
    assert (counted["name"], counted["num_requests"], counted["num_errors"]) == (endpoint, 4, 1)
    assert counted["last_error"].startswith("busy: ")
    assert counted["processing_time"] > 0
    assert counted["average_processing_time"] == counted["processing_time"] // 4


async def test_everybody_answers_a_ping_for_all(worker: StartWorker, bare: Client) -> None:
    workers = [await worker() for _ in range(3)]
    found: set[str] = set()

    async def note(message: Any) -> None:
        found.add(json.loads(message.data)["name"])

    inbox = bare.new_inbox()
    await bare.subscribe(inbox, cb=note)
    await bare.publish("$SRV.PING", b"", reply=inbox)
    async with asyncio.timeout(5):
        while not found >= {f"{one.endpoint.namespace}_backend" for one in workers}:
            await asyncio.sleep(0.01)


async def test_endpoints_of_a_component_share_its_service(transport: OpenTransport, bare: Client) -> None:
    plane = await transport()
    first = await Worker(plane, 10_000).listen(EndpointId("shared", "backend", "one"))
    second = await Worker(plane, 10_000).listen(EndpointId("shared", "backend", "two"))
    info = await ask(bare, "$SRV.INFO.shared_backend")
    assert [one["subject"] for one in info["endpoints"]] == [first.subject, second.subject]
    await first.listener.close()
    await first.listener.close()
    info = await ask(bare, "$SRV.INFO.shared_backend")
    assert [one["subject"] for one in info["endpoints"]] == [second.subject]
    await second.listener.close()
    with pytest.raises(Exception, match="no responders"):
        await bare.request("$SRV.INFO.shared_backend", b"", timeout=10)


async def test_names_with_every_character(transport: OpenTransport, bare: Client) -> None:
    plane = await transport()
    endpoint = EndpointId("a_b-C9", "0_-x", "g-_")
    here = await Worker(plane, 10_000).listen(endpoint)
    await plane.send(target_of(here.subject, plane), frame(), {}, NEVER)
    info = await ask(bare, "$SRV.INFO.a_b-C9_0_-x")
    assert info["endpoints"][0]["name"] == f"a_b-C9_0_-x-g-_-{here.incarnation:x}"


async def test_two_endpoints_of_one_process_with_the_same_subject(transport: OpenTransport) -> None:
    """`a_b` + `c` equals `a` + `b_c`: each frame reaches the endpoint that it names."""
    plane = await transport()

    def accept_only(name: bytes, got: list[bytes]) -> Any:
        def accept(delivery: Delivery) -> None:
            if name not in bytes(delivery.frame):  # type: ignore[arg-type]
                raise UnknownEndpoint("not mine")
            got.append(bytes(delivery.frame))  # type: ignore[arg-type]

        return accept

    one: list[bytes] = []
    two: list[bytes] = []
    first = await plane.listen(Served(EndpointId("a_b", "c", "x"), 9, 0, ""), accept_only(b"a_b.c.x", one))
    second = await plane.listen(Served(EndpointId("a", "b_c", "x"), 9, 0, ""), accept_only(b"a.b_c.x", two))
    assert first.record(0) == second.record(0)
    target = target_of(first.record(0)["nats_tcp"], plane)
    for _ in range(3):
        await plane.send(target, frame(b"a_b.c.x"), {}, NEVER)
        await plane.send(target, frame(b"a.b_c.x"), {}, NEVER)
    assert (len(one), len(two)) == (3, 3)
    with pytest.raises(UnknownEndpoint):
        await plane.send(target, frame(b"neither"), {}, NEVER)
    await asyncio.gather(first.close(), second.close())
    from reqplane.errors import CannotConnect

    with pytest.raises(CannotConnect, match="no responders"):
        await plane.send(target, frame(b"a.b_c.x"), {}, NEVER)
