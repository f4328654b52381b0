"""Coming, staying and leaving of a served endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

import pytest
from memory_planes import MemoryRequests, MemoryResponses, Network, eventually
from reqplane.codecs import MsgpackCodec
from reqplane.context import Context
from reqplane.endpoint import Answering
from reqplane.errors import LeaseLost, SettingsError, WorkerDraining
from reqplane.handlers import adapt
from reqplane.host import RuntimeHost
from reqplane.interfaces import Delivery, Discovery, Host, Registration
from reqplane.model import Change, EndpointId, Limits
from reqplane.serving import Planes, Serving
from reqplane.wire.frame import Frame
from reqplane.wire.request import HeadTemplate
from reqplane.workload import Workload

ENDPOINT = EndpointId("ns", "comp", "ep")


class Registering(Registration):
    def __init__(self, world: World) -> None:
        self.instance_id = 4
        self.lost = asyncio.get_running_loop().create_future()
        self._world = world

    async def publish(self, record: Mapping[str, Any]) -> None:
        await self._world.publishes.wait()
        if self._world.publishes_that_fail:
            self._world.publishes_that_fail -= 1
            self.lost.set_result(None)
            raise LeaseLost("it took too long")
        self._world.log.append(f"publish {record['instance_id']}")
        self._world.records.append(record)

    async def withdraw(self) -> None:
        self._world.log.append("withdraw")

    async def renew(self) -> None:
        await self._world.answers.wait()
        if self._world.renewals_that_fail:
            self._world.renewals_that_fail -= 1
            raise LeaseLost("not yet")
        self.instance_id += 1
        self.lost = asyncio.get_running_loop().create_future()


class World(Discovery):
    """A discovery backend that keeps a diary."""

    name = "diary"

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.records: list[Mapping[str, Any]] = []
        self.publishes_that_fail = 0
        self.renewals_that_fail = 0
        self.answers, self.publishes = asyncio.Event(), asyncio.Event()
        self.answers.set()
        self.publishes.set()
        self.registration: Registering | None = None

    @classmethod
    async def open(cls, host: Host) -> Self:
        raise NotImplementedError

    async def reserve(self, endpoint: EndpointId, incarnation: int) -> Registration:
        self.log.append("reserve")
        await self.answers.wait()
        self.registration = Registering(self)
        return self.registration

    async def watch(self, endpoint: EndpointId | None) -> AsyncIterator[list[Change]]:
        yield []

    async def aclose(self) -> None:
        pass


class Worker:
    """One endpoint on two planes."""

    def __init__(
        self,
        handler: Any,
        drain_timeout: float = 5.0,
        planes: Sequence[str] = ("one", "two"),
        dynamo: bool = False,
    ) -> None:
        self.network = Network()
        self.host = RuntimeHost({}, Limits())
        self.world = World(self.network.log)
        transports = [MemoryRequests(self.network, plane) for plane in planes]
        response, timers = MemoryResponses(self.network), self.host.timers
        workload = Workload(Limits(), self.host.inflight, timers, response.report)
        self.answering = Answering(
            7, response, {"msgpack": MsgpackCodec()}, timers, (), workload, max_frame_bytes=1 << 20
        )
        served = Planes(transports, self.world, "msgpack", drain_timeout, dynamo)
        self.serving = Serving(ENDPOINT, adapt(handler), served, self.answering)
        self.leaving = asyncio.Event()
        self.task = asyncio.ensure_future(self.serving.run(self.leaving))

    def ask(self, instance: str | None = None, *, by_dynamo: bool = False) -> Any:
        """Hand a request to whoever listens; the frontend's end of its answer."""
        pending = self.answering.response.expect("r")
        header = HeadTemplate(str(ENDPOINT), "msgpack", pending.info).render(pending.info)
        if by_dynamo:
            header = header.replace(f'"endpoint":"{ENDPOINT}",'.encode(), b"")
        headers = {} if instance is None else {"x-reqplane-instance": instance}
        frame = Frame(header, MsgpackCodec().encode(1))
        self.network.accepts[7](Delivery(frame.join(), headers, "one"))
        return pending


async def forever(request: Any, context: Context):
    while not context.is_stopped():
        yield 1
        await asyncio.sleep(0.001)


async def short(request: Any):
    await asyncio.sleep(0.1)
    yield 1


async def test_it_comes_and_leaves_in_order() -> None:
    worker = Worker(short)
    await eventually(lambda: "publish 4" in worker.network.log)
    worker.ask()
    await asyncio.sleep(0)
    worker.leaving.set()
    await worker.task
    assert worker.network.log == [
        "reserve",
        "one listens",
        "two listens",
        "publish 4",
        "withdraw",
        "one drains",
        "two drains",
        "two closes",
        "one closes",
        "withdraw",
    ]
    assert worker.network.homes[0].written == 1  # what ran when it left was finished first
    await worker.host.aclose()


async def test_one_record_speaks_of_every_plane() -> None:
    worker = Worker(short)
    await eventually(lambda: worker.world.records)
    (record,) = worker.world.records
    assert record["transport"] == {"one": "one:4", "two": "two:4"}
    assert record["planes"] == ["one", "two"]
    assert (record["incarnation"], record["request_plane_codec"]) == (7, "msgpack")
    worker.leaving.set()
    await worker.task


async def test_in_dynamos_form_it_speaks_of_one_plane_and_ours_beside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "reqplane")
    worker = Worker(short, planes=("one", "tcp", "nats_tcp"), dynamo=True)
    await eventually(lambda: "serving" in caplog.text)
    (record,) = worker.world.records
    assert (record["type"], record["instance_id"], record["transport"]) == ("Endpoint", 4, {"tcp": "tcp:4"})
    assert record["transports"] == {"one": "one:4", "tcp": "tcp:4", "nats_tcp": "nats_tcp:4"}
    assert record["planes"] == ["one", "tcp", "nats_tcp"]
    assert (
        "serving ns.comp.ep as instance 4 on one,tcp,nats_tcp, found by diary (Dynamo: tcp), "
        "at one:4, tcp:4, nats_tcp:4" in caplog.text
    )
    worker.leaving.set()
    await worker.task


async def test_a_worker_that_dynamo_could_not_find_is_not_served_as_if_it_could() -> None:
    worker = Worker(short, dynamo=True)
    with pytest.raises(SettingsError, match=r"DYN_WIRE_PROFILE='dynamo': Dynamo knows none of .* one, two; "):
        await worker.task
    assert worker.world.records == []
    assert worker.network.log[-3:] == ["two closes", "one closes", "withdraw"]


async def test_while_it_leaves_it_refuses() -> None:
    worker = Worker(forever)
    await eventually(lambda: worker.world.records)
    pending = worker.ask()
    await pending.opened
    worker.leaving.set()
    await eventually(lambda: "one drains" in worker.network.log)
    with pytest.raises(WorkerDraining):
        worker.ask()
    pending.stop()
    await worker.task


async def test_what_dynamos_clients_send_is_taken_until_they_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reqplane.serving._LAST_CALL", 0.2)
    worker = Worker(forever, planes=("tcp",), dynamo=True)
    await eventually(lambda: worker.world.records)
    worker.leaving.set()
    await eventually(lambda: "withdraw" in worker.network.log)
    with pytest.raises(WorkerDraining):
        worker.ask()
    taken = worker.ask(by_dynamo=True)
    await taken.opened
    await eventually(lambda: "tcp drains" in worker.network.log)
    with pytest.raises(WorkerDraining):
        worker.ask(by_dynamo=True)
    taken.stop()
    await worker.task


async def test_when_drain_time_runs_out_handlers_are_cut_off_and_it_is_told() -> None:
    worker = Worker(forever, drain_timeout=0.1)
    await eventually(lambda: worker.world.records)
    pending = worker.ask()
    await pending.opened
    worker.leaving.set()
    with pytest.raises(TimeoutError, match=r"1 requests of ns\.comp\.ep still ran after 0\.1 s"):
        await worker.task
    assert "gave the stream up" in str((await pending.receive())[-1])
    assert worker.network.log[-1] == "withdraw"


async def test_a_cancelled_worker_cleans_up_too() -> None:
    worker = Worker(forever)
    await eventually(lambda: worker.world.records)
    worker.ask()
    await asyncio.sleep(0.01)
    worker.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker.task
    assert worker.network.log[-3:] == ["two closes", "one closes", "withdraw"]
    assert not worker.serving._accepting.running


async def test_a_lost_registration_is_made_again_under_the_new_number(monkeypatch) -> None:
    monkeypatch.setattr("reqplane.serving._RENEW_PAUSE", 0.01)
    worker = Worker(short)
    await eventually(lambda: worker.world.records)
    worker.world.renewals_that_fail = 2
    assert worker.world.registration is not None
    worker.world.registration.lost.set_result(None)
    await eventually(lambda: "publish 5" in worker.network.log)
    assert worker.world.records[-1]["transport"] == {"one": "one:5", "two": "two:5"}
    worker.ask("5")
    worker.ask("4")  # its former number, for a while
    worker.ask("4/7")
    worker.leaving.set()
    await worker.task
    assert not worker.serving._accepting.running
    await worker.host.aclose()


async def test_a_former_number_that_it_has_got_back_is_not_forgotten(monkeypatch) -> None:
    monkeypatch.setattr("reqplane.serving._FORMER_ID_SECONDS", 0.2)
    worker = Worker(short)
    await eventually(lambda: worker.world.records)
    registration = worker.world.registration
    assert registration is not None
    registration.lost.set_result(None)
    await eventually(lambda: "publish 5" in worker.network.log)
    registration.instance_id = 4  # lost once more, and its first number was free
    await asyncio.sleep(0.3)
    worker.ask("4")
    worker.leaving.set()
    await worker.task
    await worker.host.aclose()


async def test_leaving_before_discovery_has_answered_is_possible() -> None:
    worker = Worker(short)
    worker.world.answers.clear()
    await eventually(lambda: "reserve" in worker.network.log)
    worker.leaving.set()
    await asyncio.wait_for(worker.task, 2)
    assert worker.network.log == ["reserve"]
    assert not worker.world.records
    await worker.host.aclose()


async def test_leaving_while_discovery_does_not_answer_any_more_is_possible() -> None:
    """The registration is lost, and a new one is not to be had."""
    worker = Worker(short)
    await eventually(lambda: worker.world.records)
    worker.world.answers.clear()
    assert worker.world.registration is not None
    worker.world.registration.lost.set_result(None)
    await asyncio.sleep(0.02)
    worker.leaving.set()
    await asyncio.wait_for(worker.task, 2)
    assert worker.network.log[-2:] == ["one closes", "withdraw"]
    await worker.host.aclose()


async def test_what_has_come_so_far_is_given_back_when_it_is_told_to_leave() -> None:
    worker = Worker(short)
    worker.world.publishes.clear()
    await eventually(lambda: "two listens" in worker.network.log)
    worker.leaving.set()
    await asyncio.wait_for(worker.task, 2)
    assert worker.network.log[-3:] == ["two closes", "one closes", "withdraw"]
    assert not worker.world.records
    await worker.host.aclose()


async def test_a_registration_that_is_lost_before_its_first_record_is_made_again() -> None:
    worker = Worker(short)
    worker.world.publishes_that_fail = 1
    await eventually(lambda: worker.world.records)
    assert worker.world.records[-1]["instance_id"] == 5
    worker.leaving.set()
    await worker.task
    await worker.host.aclose()


async def test_leaving_while_registering_again_is_possible() -> None:
    worker = Worker(short)
    await eventually(lambda: worker.world.records)
    worker.world.renewals_that_fail = 10**6
    assert worker.world.registration is not None
    worker.world.registration.lost.set_result(None)
    await asyncio.sleep(0.02)
    worker.leaving.set()
    await asyncio.wait_for(worker.task, 2)
