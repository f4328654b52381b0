"""Opening, losing, finding again, draining, closing."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
from contextlib import AsyncExitStack
from pathlib import Path

import nats as nats_py
import psutil
import pytest
import reqplane_nats.listener
from ports import free_port
from reqplane.errors import CannotConnect, DeliveryUnknown, SettingsError, WorkerDraining
from reqplane.model import NEVER, EndpointId, Served
from reqplane_nats.transport import NatsTransport
from servers import Nats, generations

from .conftest import OpenTransport, StartWorker, Worker, frame, opened, soon, target_of, until


async def pair(stack: AsyncExitStack, env: dict[str, str]) -> tuple[Worker, NatsTransport]:
    """A worker and a frontend."""
    plane = await stack.enter_async_context(opened(env))
    frontend = await stack.enter_async_context(opened(env))
    return await Worker(plane, plane.max_frame_bytes).listen(), frontend


async def works_again(here: Worker, frontend: NatsTransport) -> None:
    """Both have found a server again."""
    target = target_of(here.subject, frontend)
    async with asyncio.timeout(10):
        while True:
            try:
                return await frontend.send(target, frame(b"again"), {}, NEVER)
            except CannotConnect:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("program", generations("nats-server"))
async def test_a_server_that_is_killed_and_back(program: str, tmp_path: Path, stack: AsyncExitStack) -> None:
    server = Nats(tmp_path, program).start()
    stack.callback(server.close)
    here, frontend = await pair(stack, {"NATS_SERVER": server.url})
    target = target_of(here.subject, frontend)
    await frontend.send(target, frame(), {}, NEVER)
    server.kill()
    await until(lambda: frontend._link.wire is None)
    began = time.monotonic()
    with pytest.raises(CannotConnect, match=r"no connection to the NATS server: ") as caught:
        await frontend.send(target, frame(b"lost"), {}, NEVER)
    assert time.monotonic() - began < 2  # and not the request's time-out
    assert caught.value.address == f"127.0.0.1:{server.port}"
    server.start()
    await works_again(here, frontend)
    assert here.bodies() == [b"hello", b"again"], "what failed must not be delivered later"


@pytest.mark.parametrize("program", generations("nats-server"))
async def test_the_basics_on_each_generation(program: str, tmp_path: Path, stack: AsyncExitStack) -> None:
    """Also on a server that had JetStream and comes back without."""
    server = Nats(tmp_path, program, f'jetstream {{ store_dir: "{tmp_path}/js" }}').start()
    stack.callback(server.close)
    here, frontend = await pair(stack, {"NATS_SERVER": server.url})
    target = target_of(here.subject, frontend)
    for _ in range(2):
        await frontend.send(target, frame(b"x" * 900_000), {"request-id": "1"}, NEVER)
        assert here.got[-1].headers == {"request-id": "1"}
        here.refuse = WorkerDraining("leaving")
        with pytest.raises(WorkerDraining):
            await frontend.send(target, frame(), {}, NEVER)
        here.refuse = None
        with pytest.raises(CannotConnect, match="no responders"):
            await frontend.send(target_of("nobody.here-1", frontend), frame(), {}, NEVER)
        bare = await nats_py.connect(server.url)
        name = f"{here.endpoint.namespace}_backend"
        assert here.subject.encode() in (await bare.request(f"$SRV.STATS.{name}", b"")).data
        await bare.close()
        server.kill()
        await until(lambda: frontend._link.wire is None and here.transport._link.wire is None)
        server._config.write_text("")
        server.start()
        await works_again(here, frontend)


async def test_what_was_written_before_the_loss_is_unknown_at_once(
    own_nats: Nats, stack: AsyncExitStack
) -> None:
    here, frontend = await pair(stack, {"NATS_SERVER": own_nats.url})
    here.transport._link.subscribe("silent.one-1", "q", lambda *message: None)
    await here.transport._link.flushed(5)
    sends = [frontend.send(target_of("silent.one-1", frontend), frame(), {}, NEVER) for _ in range(20)]
    await asyncio.sleep(0.1)
    own_nats.kill()
    began = time.monotonic()
    for error in await asyncio.gather(*sends, return_exceptions=True):
        assert isinstance(error, DeliveryUnknown)
        assert error.reason == "connection_lost"
    assert time.monotonic() - began < 2


@pytest.mark.slow
async def test_a_frozen_server_is_noticed_within_6_s(own_nats: Nats, stack: AsyncExitStack) -> None:
    env = {"NATS_SERVER": own_nats.url, "DYN_NATS_REQUEST_TIMEOUT_SECS": "60"}
    here, frontend = await pair(stack, env)
    own_nats.freeze()
    await asyncio.sleep(0.2)  # until it really stands
    large = b"x" * 1_000_000
    target = target_of(here.subject, frontend)
    began = time.monotonic()
    sends = [frontend.send(target, frame(large), {}, NEVER) for _ in range(15)]
    await asyncio.sleep(0)
    sends += [frontend.send(target, frame(large), {}, NEVER) for _ in range(15)]
    results = await asyncio.gather(*sends, return_exceptions=True)
    assert time.monotonic() - began < 6
    assert {type(result) for result in results} <= {DeliveryUnknown, CannotConnect}
    assert isinstance(results[0], DeliveryUnknown)
    assert results[0].reason == "connection_lost"
    assert isinstance(results[-1], CannotConnect), "what was never written is safe to send again"
    own_nats.thaw()
    await works_again(here, frontend)


async def test_a_cluster_that_loses_a_server(tmp_path: Path, stack: AsyncExitStack) -> None:
    """The frontend knows one server only; the other it learns from that."""
    routes = free_port()
    first = Nats(tmp_path / "a", config=cluster(routes, "")).start()
    stack.callback(first.close)
    second = Nats(tmp_path / "b", config=cluster(free_port(), f"nats://127.0.0.1:{routes}")).start()
    stack.callback(second.close)
    await until(lambda: first.ask("routez")["num_routes"])
    here, frontend = await pair(stack, {"NATS_SERVER": first.url})
    await until(lambda: frontend._link._discovered and here.transport._link._discovered)
    first.kill()
    await until(lambda: frontend._link.wire is None)
    await works_again(here, frontend)
    assert frontend._link.address == f"127.0.0.1:{second.port}"


def cluster(port: int, other: str) -> str:
    return f'cluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{other}] }}'


async def test_the_first_server_of_the_list_is_dead(nats: Nats, stack: AsyncExitStack) -> None:
    servers = f"nats://127.0.0.1:{free_port()}, nats://127.0.0.1:{free_port()},127.0.0.1:{nats.port}"
    here, frontend = await pair(stack, {"NATS_SERVER": servers})
    await frontend.send(target_of(here.subject, frontend), frame(), {}, NEVER)


async def test_a_server_that_starts_after_us(
    tmp_path: Path, stack: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    server = Nats(tmp_path)
    stack.callback(server.close)
    began = time.monotonic()
    plane = await stack.enter_async_context(opened({"NATS_SERVER": server.url}))
    assert 2.5 < time.monotonic() - began < 8
    assert "NATS_SERVER" in caplog.text
    with pytest.raises(CannotConnect, match=r"Connection refused") as caught:
        await plane.send(target_of("a.b-1", plane), frame(), {}, NEVER)
    assert caught.value.address == f"127.0.0.1:{server.port}"
    listening = asyncio.ensure_future(Worker(plane, plane.max_frame_bytes).listen())
    await asyncio.sleep(0)
    server.start()
    here = await listening
    await plane.send(target_of(here.subject, plane), frame(), {}, NEVER)


async def test_a_worker_without_a_server_gives_up(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reqplane_nats.listener, "_PATIENCE", 0.3)
    monkeypatch.setattr(reqplane_nats.listener, "_TELL_EVERY", 0.1)
    monkeypatch.setattr("reqplane_nats.transport._OPEN_PATIENCE", 0.1)
    port = free_port()
    plane = await stack.enter_async_context(opened({"NATS_SERVER": f"nats://u:secret@127.0.0.1:{port}"}))
    with pytest.raises(SettingsError, match="start one, or set NATS_SERVER") as caught:
        await Worker(plane, 10_000).listen()
    assert caught.value.problems[0][:2] == ("NATS_SERVER", f"nats://127.0.0.1:{port}")
    assert sum("waiting for a NATS server" in record.message for record in caplog.records) >= 2
    assert "secret" not in caplog.text + str(caught.value)


async def test_a_frozen_worker_and_a_dead_one(nats: Nats, stack: AsyncExitStack) -> None:
    """Frozen: its server still takes requests for it.  Dead: at once nobody is there."""
    here, frontend = await pair(stack, {"NATS_SERVER": nats.url})
    target = target_of(here.subject, frontend)
    wire = here.transport._link.wire
    assert wire is not None
    assert wire.transport is not None
    wire.transport.pause_reading()
    with pytest.raises(DeliveryUnknown, match="timed_out"):
        await frontend.send(target, frame(), {}, soon(0.3))
    await here.transport.aclose()
    await until(lambda: here.subject not in str(nats.ask("connz?subs=1")))  # the server has noticed
    with pytest.raises(CannotConnect, match="no responders"):
        await frontend.send(target, frame(), {}, NEVER)


async def test_drain_returns_when_the_acks_are_with_the_server(
    worker: StartWorker, transport: OpenTransport
) -> None:
    here, frontend = await worker(), await transport()
    target = target_of(here.subject, frontend)
    sends = [frontend.send(target, frame(), {}, NEVER) for _ in range(200)]
    await until(lambda: here.got)
    await here.listener.drain()
    here.refuse = WorkerDraining("leaving")
    with pytest.raises(WorkerDraining):
        await frontend.send(target, frame(), {}, NEVER)
    await asyncio.gather(*sends)


async def test_close_under_traffic_loses_nothing(worker: StartWorker, transport: OpenTransport) -> None:
    """Every frame is either accepted and acked, or its sender knows that it was not."""
    here, frontend = await worker(), await transport()
    target = target_of(here.subject, frontend)
    results: list[object] = []

    async def keep_sending() -> None:
        for _ in range(300):
            results.extend(
                await asyncio.gather(
                    *(frontend.send(target, frame(), {}, NEVER) for _ in range(5)), return_exceptions=True
                )
            )

    sending = asyncio.ensure_future(keep_sending())
    await until(lambda: len(here.got) > 100)
    await here.listener.close()
    await here.listener.close()
    await sending
    assert {type(result) for result in results} == {type(None), CannotConnect}
    assert results.count(None) == len(here.got)


async def test_the_last_close_leaves_the_connection_for_sends(
    worker: StartWorker, transport: OpenTransport
) -> None:
    here, other = await worker(), await worker()
    await here.listener.close()
    await here.transport.send(target_of(other.subject, here.transport), frame(), {}, NEVER)
    assert len(other.got) == 1
    again = await Worker(here.transport, 10_000).listen(here.endpoint)
    await other.transport.send(target_of(again.subject, other.transport), frame(), {}, NEVER)


async def test_a_closed_endpoint_stays_closed_after_a_reconnection(
    own_nats: Nats, stack: AsyncExitStack
) -> None:
    here, frontend = await pair(stack, {"NATS_SERVER": own_nats.url})
    other = await Worker(here.transport, 10_000).listen()
    own_nats.kill()
    await until(lambda: here.transport._link.wire is None)
    await here.listener.close()
    await here.listener.drain()
    own_nats.start()
    await works_again(other, frontend)
    with pytest.raises(CannotConnect, match="no responders"):
        await frontend.send(target_of(here.subject, frontend), frame(), {}, NEVER)


async def test_open_and_close_thirty_times(nats: Nats) -> None:
    process = psutil.Process()

    async def once() -> None:
        env = {"NATS_SERVER": nats.url}
        async with opened(env) as plane, opened(env) as frontend:
            here = await Worker(plane, plane.max_frame_bytes).listen()
            await frontend.send(target_of(here.subject, frontend), frame(), {}, NEVER)
            await here.listener.drain()
            await here.listener.close()

    await once()
    gc.collect()
    before = process.num_fds()
    for _ in range(30):
        await once()
    assert process.num_fds() == before
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_while_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and says nothing."""
    monkeypatch.setattr("reqplane_nats.transport._OPEN_PATIENCE", 0.2)
    silent = socket.create_server(("127.0.0.1", 0))
    before = asyncio.all_tasks()
    async with opened({"NATS_SERVER": f"nats://127.0.0.1:{silent.getsockname()[1]}"}) as plane:
        with pytest.raises(CannotConnect):
            await plane.send(target_of("a.b-1", plane), frame(), {}, NEVER)
    assert asyncio.all_tasks() <= before
    silent.close()


async def test_a_listen_that_is_cancelled_leaves_nothing(transport: OpenTransport) -> None:
    plane = await transport()
    served = Served(EndpointId("cancelled", "backend", "generate"), 7, 0, "")
    listening = asyncio.ensure_future(plane.listen(served, lambda delivery: None))
    await asyncio.sleep(0)
    listening.cancel()
    await asyncio.wait({listening})
    assert listening.cancelled()
    with pytest.raises(CannotConnect, match="no responders"):
        await plane.send(target_of("cancelled_backend.generate-7", plane), frame(), {}, NEVER)
    listener = await plane.listen(served, lambda delivery: None)
    await listener.close()


async def test_the_log_is_not_flooded(
    own_nats: Nats, stack: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plane = await stack.enter_async_context(opened({"NATS_SERVER": own_nats.url}))
    own_nats.kill()
    await until(lambda: plane._link.wire is None)
    await asyncio.sleep(1.5)
    assert 1 <= len([one for one in caplog.records if one.levelno >= logging.WARNING]) <= 3
