"""One call, asking side and answering side together, under both orders of ack and call-home."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import msgpack  # pyright: ignore[reportMissingTypeStubs]
import pytest
from memory_planes import MemoryHome, eventually
from reqplane.context import Context
from reqplane.errors import (
    CannotConnect,
    DeadlineExceeded,
    DeliveryUnknown,
    FrameTooLarge,
    HandlerFailed,
    InvalidFrame,
    NoInstances,
    PayloadError,
    ReqplaneError,
    StreamBroken,
    WorkerBusy,
    WorkerDraining,
)
from reqplane.interfaces import Observer
from reqplane.model import Change


async def count(request: dict[str, Any], context: Context):
    for i in range(request["n"]):
        yield i


class Endless:
    """A handler that goes on until it is stopped, and remembers how it ended."""

    def __init__(self, pause: float = 0.001) -> None:
        self.pause = pause
        self.contexts: list[Context] = []
        self.ended: list[str] = []

    async def __call__(self, request: Any, context: Context):
        self.contexts.append(context)
        try:
            i = 0
            while not context.is_stopped():
                yield i
                i += 1
                await asyncio.sleep(self.pause)
            self.ended.append("stopped")
        except (asyncio.CancelledError, GeneratorExit):  # in its own await, or at its yield
            self.ended.append("cancelled")
            raise


class Silent:
    """A handler that never yields."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, request: Any):
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        yield None


async def collect(stream: Any) -> list[Any]:
    return [item async for item in stream]


# ── whole answers ──


async def test_items_come_in_order_and_the_stream_ends(fleet) -> None:
    fleet.add(count)
    stream = fleet.client().generate({"n": 50})
    assert await collect(stream) == list(range(50))
    assert (stream.items_received, stream.plane, stream.instance.instance_id) == (50, "memory", 0)
    assert await collect(stream) == []
    await eventually(lambda: not fleet.workers[0].running)
    assert not fleet.network.waiting


async def test_awaiting_waits_for_the_ack_and_returns_the_same_stream(fleet) -> None:
    fleet.add(count)
    stream = fleet.client().round_robin({"n": 3})
    assert fleet.network.sent == []
    assert await stream is stream
    assert fleet.network.sent == [100]
    assert await collect(stream) == [0, 1, 2]


async def test_nothing_is_sent_before_the_first_await(fleet) -> None:
    fleet.add(count)
    client = fleet.client()
    stream = client.generate({"n": 1})
    aiter(stream)
    await asyncio.sleep(0.01)
    assert fleet.network.sent == []
    del stream


async def test_workers_take_turns(fleet) -> None:
    for _ in range(3):
        fleet.add(count)
    client = fleet.client()
    for _ in range(6):
        await collect(client.generate({"n": 1}))
    assert sorted(fleet.network.sent) == [100, 100, 101, 101, 102, 102]


async def test_a_coroutine_gives_one_item_and_a_generator_runs_in_a_thread(fleet) -> None:
    async def one(request):
        return request["n"] * 2

    def several(request):
        yield from range(request["n"])

    fleet.add(one)
    fleet.add(several)
    client = fleet.client()
    assert await collect(client.direct({"n": 4}, 0)) == [8]
    assert await collect(client.direct({"n": 4}, 1)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "value", [None, b"", b"\x00\xff", float("inf"), 2**63, "ü", [], {}, [None, {"a": [1]}]]
)
async def test_awkward_values_arrive_equal(fleet, value) -> None:
    async def echo(request):
        yield request

    fleet.add(echo)
    assert await collect(fleet.client().generate(value)) == [value]


async def test_annotated_items(fleet) -> None:
    fleet.add(count)
    (item,) = await collect(fleet.client().generate({"n": 1}, annotated=True))
    assert (item.data(), item.event(), item.comments(), item.id()) == (0, None, [], None)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_peer_with_envelopes_is_served_alike(fleet, codec: str) -> None:
    fleet.network.enveloped = True
    fleet.codec = codec
    fleet.add(count)

    async def fails(request):
        yield 1
        raise ValueError("bad")

    fleet.add(fails)
    client = fleet.client()
    assert await collect(client.direct({"n": 3}, 0)) == [0, 1, 2]
    with pytest.raises(HandlerFailed, match="ValueError: bad") as caught:
        await collect(client.direct({}, 1))
    assert caught.value.items_received == 1


async def swallows_its_cancellation(request: Any):
    yield 0
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return
    yield 1


async def test_what_a_cut_off_handler_has_sent_is_not_the_whole_answer(fleet) -> None:
    """A handler may end quietly when it is cancelled, which a drain that takes too long does."""
    worker = fleet.add(swallows_its_cancellation)
    items = aiter(fleet.client().generate(None))
    assert await anext(items) == 0
    for task in worker.running:
        task.cancel()
    with pytest.raises(StreamBroken):
        await anext(items)


async def test_nor_is_what_it_has_sent_by_the_deadline(fleet) -> None:
    """The worker's clock rings, and the frontend's is late."""
    fleet.add(swallows_its_cancellation)
    stream = await fleet.client().generate(None, timeout=0.05)
    stream._disarm()
    with pytest.raises(DeadlineExceeded):
        await collect(stream)


# ── handlers that fail ──


@pytest.mark.parametrize("after", [0, 3])
async def test_a_handler_that_raises(fleet, after: int) -> None:
    async def fails(request):
        for i in range(after):
            yield i
        raise ValueError("bad luck")

    fleet.add(fails)
    stream = fleet.client().generate({})
    with pytest.raises(HandlerFailed, match="bad luck") as caught:
        await collect(stream)
    assert (caught.value.error_type, caught.value.items_received) == ("ValueError", after)
    assert caught.value.request_id == stream.request_id
    assert "Traceback" not in str(caught.value)
    with pytest.raises(HandlerFailed):  # it does not look complete the second time either
        await collect(stream)


class Panic(BaseException):
    """What some extension modules raise."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def raising(error: BaseException):
    yield 1
    raise error


def raising_in_a_thread(error: BaseException):
    yield 1
    raise error


OWN = [SystemExit(3), Panic("p"), GeneratorExit(), asyncio.CancelledError("own"), Unprintable()]


@pytest.mark.parametrize("error", OWN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", [raising, raising_in_a_thread])
async def test_whatever_a_handler_raises_fails_its_own_request_only(fleet, kind, error) -> None:
    def in_a_thread(request):
        yield from kind(error)

    async def on_the_loop(request):
        async for item in kind(error):
            yield item

    fleet.add(in_a_thread if kind is raising_in_a_thread else on_the_loop)
    fleet.add(count)
    client = fleet.client()
    with pytest.raises(HandlerFailed) as caught:
        await asyncio.wait_for(collect(client.direct({}, 0)), 5)
    assert caught.value.items_received == 1
    assert await collect(client.direct({"n": 2}, 1)) == [0, 1]


async def test_a_request_that_the_worker_cannot_decode_is_a_payload_error(fleet) -> None:
    fleet.add(count)
    with pytest.raises(PayloadError, match="the request") as caught:
        await collect(fleet.client().generate(msgpack.ExtType(5, b"x")))  # can be packed, and is not read
    assert caught.value.index is None


@pytest.mark.parametrize("value", [2**64, object(), "\ud800"])
async def test_an_item_that_cannot_be_encoded_tells_its_index(fleet, value) -> None:
    async def awkward(request):
        yield 1
        yield value

    fleet.add(awkward)
    with pytest.raises(PayloadError) as caught:
        await collect(fleet.client().generate({}))
    assert caught.value.index == 1


@pytest.mark.parametrize("enveloped", [False, True])
@pytest.mark.parametrize("annotated", [False, True])
async def test_an_item_that_cannot_be_decoded_tells_its_index(fleet, enveloped, annotated) -> None:
    fleet.network.enveloped = enveloped
    silent = Silent()
    fleet.add(silent)
    stream = await fleet.client().generate({})
    await silent.started.wait()
    fleet.network.homes[0].write(b"\xc1", annotated)  # no codec of ours writes this
    with pytest.raises(PayloadError, match="item 0 of the answer") as caught:
        await collect(stream)
    assert caught.value.index == 0
    await asyncio.wait_for(silent.cancelled.wait(), 1)


async def test_an_item_that_is_too_large_tells_its_index(fleet) -> None:
    async def large(request):
        yield b"x"
        yield b"x" * (2 << 20)

    fleet.add(large)
    with pytest.raises(PayloadError, match="at most 1048576 are allowed") as caught:
        await collect(fleet.client().generate({}))
    assert caught.value.index == 1


async def test_a_request_that_cannot_be_encoded_is_an_error_at_once(fleet) -> None:
    fleet.add(count)
    with pytest.raises(PayloadError, match="the request") as caught:
        await collect(fleet.client().generate({"n": object()}))
    assert caught.value.index is None
    assert fleet.network.sent == []
    assert not fleet.network.waiting


async def test_a_failure_with_more_to_say_than_a_frame_may_hold(fleet, monkeypatch) -> None:
    """The smallest limit there is, and a text that is longer in bytes than in letters."""

    async def verbose(request):
        yield 0
        raise ValueError("\U0001f600" * 2000)

    write = MemoryHome.write

    def limited(home: MemoryHome, body: bytes, annotated: bool = False) -> bool:
        if len(body) > 4096:
            raise FrameTooLarge(len(body), 4096)
        return write(home, body, annotated)

    monkeypatch.setattr(MemoryHome, "write", limited)
    fleet.add(verbose)
    items = aiter(fleet.client().generate(None))
    assert await anext(items) == 0
    with pytest.raises(HandlerFailed, match="ValueError: \U0001f600"):
        await anext(items)


async def test_what_a_handlers_own_call_could_not_carry_is_not_this_answers_item(fleet) -> None:
    async def forwards(request):
        yield 0
        raise PayloadError("of another answer", index=7)

    fleet.add(forwards)
    with pytest.raises(HandlerFailed, match="item 7 of the answer can't be carried: of another answer"):
        await collect(fleet.client().generate(None))


# ── leaving early ──


async def test_break_stops_the_handler(fleet) -> None:
    endless = Endless()
    fleet.add(endless)
    client = fleet.client()
    async for item in client.generate({}):
        if item == 3:
            break
    await eventually(lambda: endless.ended == ["cancelled"], within=5)
    assert endless.contexts[0].is_killed()
    await eventually(lambda: not fleet.workers[0].running)


async def test_leaving_a_held_stream_only_pauses_it(fleet) -> None:
    endless = Endless()
    fleet.add(endless)
    stream = await fleet.client().generate({})
    async for item in stream:
        if item == 3:
            break
    async for item in stream:
        assert item == 4
        break
    assert not endless.ended
    await stream.aclose()
    await stream.aclose()
    await eventually(lambda: endless.ended == ["cancelled"], within=5)
    assert await collect(stream) == []


async def test_async_with_ends_the_call(fleet) -> None:
    endless = Endless()
    fleet.add(endless)
    async with fleet.client().generate({}) as stream:
        async for _ in stream:
            break
        assert not endless.ended
    await eventually(lambda: endless.ended == ["cancelled"], within=5)


@pytest.mark.parametrize("options", [{}, {"timeout": 60}, {"context": Context("outer")}])
async def test_a_stream_dropped_unread_stops_the_handler(fleet, options) -> None:
    endless = Endless()
    fleet.add(endless)
    stream = await fleet.client().generate({}, **options)
    await eventually(lambda: endless.contexts)
    del stream
    gc.collect()
    await eventually(lambda: endless.ended == ["cancelled"], within=5)


async def test_stop_generating_ends_the_answer_politely(fleet) -> None:
    endless = Endless()
    fleet.add(endless)
    stream = fleet.client().generate({})
    items = []
    async for item in stream:
        items.append(item)
        if item == 3:
            stream.stop_generating()
    assert items == list(range(len(items)))
    assert endless.ended == ["stopped"]


@pytest.mark.parametrize("first", ["ack"], indirect=True)
async def test_stop_before_the_worker_calls_home_reaches_the_handler(fleet) -> None:
    endless = Endless()
    fleet.add(endless)
    fleet.network.call_home.clear()
    stream = await fleet.client().generate({})
    stream.stop_generating()
    fleet.network.call_home.set()
    assert len(await collect(stream)) <= 1
    assert endless.ended in (["stopped"], [])


async def test_the_callers_cancellation_reaches_the_handler(fleet) -> None:
    silent = Silent()
    fleet.add(silent)
    call = asyncio.ensure_future(collect(fleet.client().generate({})))
    await silent.started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(silent.cancelled.wait(), 1)


async def test_cancelling_while_waiting_for_the_ack_leaves_nothing(fleet) -> None:
    fleet.add(count)
    fleet.network.silent.add(100)
    call = asyncio.ensure_future(collect(fleet.client().generate({"n": 1})))
    await eventually(lambda: fleet.network.sent)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not fleet.network.waiting


async def test_a_handlers_context_hands_on_id_headers_deadline_and_stop(fleet) -> None:
    endless = Endless()
    fleet.add(endless)
    client = fleet.client()
    seen = {}

    async def relay(request, context):
        seen["context"] = context
        async for item in client.direct({}, 0, context=context):
            yield item

    fleet.add(relay)
    client = fleet.client()
    outer = Context("outer-1", headers={"traceparent": "00-abc"})
    async for item in client.direct({}, 1, context=outer, timeout=60):
        if item == 2:
            outer.stop_generating()
    inner = endless.contexts[0]
    assert (inner.id, inner.headers["traceparent"]) == ("outer-1", "00-abc")
    assert 0 < inner.deadline - asyncio.get_running_loop().time() <= 60
    assert endless.ended == ["stopped"]


async def test_a_call_made_from_a_handler_may_go_to_another_worker(fleet) -> None:
    fleet.add(count)

    async def relay(request, context):
        async for item in fleet.network_client.generate({"n": 2}, context=context):
            yield item

    fleet.add(relay)
    fleet.network_client = fleet.client()
    fleet.network_client.table._apply([Change(fleet.instances[1], up=False)])
    client = fleet.client()
    assert await collect(client.direct({}, 1)) == [0, 1]  # named the relay, not whom it calls


def test_headers_that_would_be_lost_are_a_value_error() -> None:
    assert Context(headers={"Traceparent": "00-1"}).headers == {"traceparent": "00-1"}
    for headers in ({"authorization": "x"}, {"traceparent": "ü"}, {"x-reqplane-instance": "0"}):
        with pytest.raises(ValueError, match="can't travel"):
            Context(headers=headers)


async def test_a_call_that_was_stopped_is_not_sent_by_the_next_plane(fleet, monkeypatch) -> None:
    """Its handler would not hear of it."""
    fleet.planes = ("one", "two")
    endless = Endless()
    fleet.add(endless)
    client = fleet.client()
    connecting = asyncio.get_running_loop().create_future()
    transport = client.table.worker(100).routes[0].transport
    monkeypatch.setattr(transport, "send", lambda *_: connecting)
    stream = client.generate(None)
    reading = asyncio.create_task(collect(stream))
    await eventually(lambda: fleet.network.waiting)
    stream.stop_generating()
    connecting.set_exception(CannotConnect("nobody listens", address="one"))
    assert await reading == []
    assert not endless.contexts


async def test_a_call_that_was_left_does_not_look_complete_in_a_second_loop(fleet) -> None:
    fleet.add(count)
    stream = fleet.client().generate({"n": 3})
    async for _ in stream:
        break
    await eventually(lambda: "over" in repr(stream))
    with pytest.raises(ReqplaneError, match="was left before its answer was whole"):
        await collect(stream)


async def test_nor_does_one_that_was_cancelled_before_it_was_sent(fleet) -> None:
    fleet.add(count)
    fleet.network.silent.add(100)
    stream = fleet.client().generate({"n": 3})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await stream
    with pytest.raises(ReqplaneError, match="was left before its answer was whole"):
        await collect(stream)


async def test_two_tasks_cannot_have_one_call(fleet) -> None:
    """Neither gets a part of it that looks like the whole, and none waits for ever."""
    fleet.network.call_home.clear()
    fleet.add(count)
    fleet.add(Silent())
    client = fleet.client()
    stream = client.direct({"n": 3}, 0)
    first = asyncio.create_task(collect(stream))
    await eventually(lambda: fleet.network.sent)
    if fleet.network.first == "home":
        with pytest.raises(RuntimeError, match="another task has not finished sending"):
            await collect(stream)
        with pytest.raises(RuntimeError, match="another task has not finished sending"):
            await stream
    fleet.network.call_home.set()
    assert await first == [0, 1, 2]

    stream = await client.direct(None, 1)
    reader = asyncio.create_task(collect(stream))
    await eventually(lambda: stream._reading)
    await stream.aclose()
    with pytest.raises(StreamBroken, match="closed here"):
        await reader

    stream = await client.direct(None, 1)
    readers = [asyncio.create_task(collect(stream)) for _ in range(2)]
    done, pending = await asyncio.wait(readers, timeout=5)
    assert not pending
    told = [type(task.exception()) for task in done]
    assert sorted(told, key=str) == [RuntimeError, StreamBroken]


# ── workers that can't or won't ──


async def test_another_worker_is_asked_once_each(fleet) -> None:
    for _ in range(3):
        fleet.add(count)
    fleet.network.fail = {
        100: CannotConnect("refused", address="a:1", transport="memory"),
        101: WorkerDraining("leaving"),
    }
    client = fleet.client()
    for _ in range(3):
        assert await collect(client.generate({"n": 2})) == [0, 1]
    assert fleet.network.sent.count(102) == 3


async def test_when_all_fail_the_last_failure_names_those_tried(fleet) -> None:
    for _ in range(3):
        fleet.add(count)
    fleet.network.fail = {100 + i: WorkerBusy("full") for i in range(3)}
    with pytest.raises(WorkerBusy, match="tried") as caught:
        await collect(fleet.client().generate({"n": 1}))
    assert sorted(caught.value.tried) == ["ns.comp.ep/0", "ns.comp.ep/1", "ns.comp.ep/2"]
    assert sorted(fleet.network.sent) == [100, 101, 102]


@pytest.mark.parametrize(
    "error",
    [
        DeliveryUnknown("timed_out", "no ack"),
        InvalidFrame("bad"),
        FrameTooLarge(10, 5),
    ],
)
async def test_what_may_run_or_will_never_do_is_not_sent_again(fleet, error) -> None:
    fleet.add(count)
    fleet.add(count)
    fleet.network.fail = {100: error, 101: error}
    with pytest.raises(type(error)) as caught:
        await collect(fleet.client().generate({"n": 1}))
    assert len(fleet.network.sent) == 1
    assert caught.value.endpoint == "ns.comp.ep"
    assert not fleet.network.waiting


@pytest.mark.parametrize("turns", range(5))
async def test_a_late_refusal_does_not_matter_once_the_stream_runs(fleet, turns: int) -> None:
    fleet.add(count)
    fleet.network.turns_after_home = turns
    fleet.network.late[100] = DeliveryUnknown("timed_out", "no ack")
    assert await collect(fleet.client().generate({"n": 5})) == list(range(5))


async def test_the_next_plane_is_tried_after_cannot_connect_only(fleet) -> None:
    fleet.planes = ("one", "two")
    fleet.add(count)
    fleet.network.fail = {100: CannotConnect("refused", address="a:1")}
    with pytest.raises(CannotConnect):
        await collect(fleet.client().generate({"n": 1}))
    assert len(fleet.network.sent) == 2
    fleet.network.sent.clear()
    fleet.network.fail = {100: WorkerDraining("leaving")}
    with pytest.raises(WorkerDraining):
        await collect(fleet.client().generate({"n": 1}))
    assert len(fleet.network.sent) == 1


async def test_not_every_call_waits_for_a_plane_that_is_slow_to_say_that_it_cannot_connect(
    fleet, monkeypatch
) -> None:
    fleet.planes = ("one", "two")
    fleet.add(count)
    client = fleet.client()
    first, second = (route.transport for route in client.table.worker(100).routes)
    works = first.send
    tried: list[str] = []
    is_closed = True

    async def slow(*_: Any) -> None:
        tried.append("one")
        await asyncio.sleep(0.02)
        raise CannotConnect("no connection within 0.02 s", address="one")

    async def call() -> str | None:
        stream = client.generate({"n": 1})
        assert await collect(stream) == [0]
        return stream.plane

    monkeypatch.setattr(first, "send", lambda *parts: slow() if is_closed else works(*parts))
    assert [await call() for _ in range(20)] == ["two"] * 20
    assert len(tried) == 1
    await asyncio.sleep(0.5)  # more than eight times as long
    assert await asyncio.gather(*(call() for _ in range(20))) == ["two"] * 20
    assert len(tried) == 2, "one is enough to find out"
    is_closed = False
    await asyncio.sleep(0.5)
    assert [await call() for _ in range(3)] == ["one"] * 3
    monkeypatch.setattr(second, "send", lambda *_: slow())
    assert await call() == "one"


async def test_a_draining_worker_refuses_and_another_answers(fleet) -> None:
    fleet.add(count).draining = True
    fleet.add(count)
    client = fleet.client()
    for _ in range(2):
        assert await collect(client.generate({"n": 1})) == [0]
    with pytest.raises(WorkerDraining):
        await collect(client.direct({"n": 1}, 0))


async def test_direct_reaches_that_worker_or_says_who_there_is(fleet) -> None:
    fleet.add(count)
    fleet.add(count)
    client = fleet.client()
    assert await collect(client.direct({"n": 1}, 1)) == [0]
    assert fleet.network.headers[-1]["x-reqplane-instance"] == "1/101"
    with pytest.raises(NoInstances, match="with the id 7; the ids are 0, 1"):
        await collect(client.direct({"n": 1}, 7))


async def test_a_direct_call_to_a_predecessor_is_refused_and_not_sent_elsewhere(fleet) -> None:
    from reqplane.errors import WrongInstance

    fleet.add(count)
    fleet.add(count)
    client = fleet.client()
    fleet.network.accepts[100] = fleet.network.accepts[101]  # another process behind the same address
    with pytest.raises(WrongInstance):
        await collect(client.direct({"n": 1}, 0))


async def test_no_instances_says_what_there_is_instead(fleet) -> None:
    with pytest.raises(
        NoInstances, match=r"No instances found for ns\.comp\.ep: .*did you mean ns\.comp\.eq"
    ):
        await collect(fleet.client().generate({}))
    fleet.add(count, planes=("nats",))
    with pytest.raises(NoInstances, match="on memory: there are 1 on nats; set DYN_REQUEST"):
        await collect(fleet.client().generate({}))
    with pytest.raises(NoInstances):
        await fleet.client().wait_for_instances(timeout=0.01)


async def test_workers_that_cannot_be_used_are_told_with_the_reason(fleet) -> None:
    fleet.codec = "pigeon"
    fleet.add(count)
    with pytest.raises(NoInstances, match="1 on memory with the codec 'pigeon', which is not installed"):
        await fleet.client().wait_for_instances(timeout=0.01)


async def test_a_closed_runtime_is_told_as_such(fleet) -> None:
    fleet.add(count)
    client = fleet.client()
    client.table.close()
    with pytest.raises(ReqplaneError, match="is closed"):
        await collect(client.generate({"n": 1}))


@pytest.mark.parametrize("wrong", [None, "0", 1.5])
async def test_direct_wants_a_number(fleet, wrong) -> None:
    fleet.add(count)
    with pytest.raises(TypeError, match="instance_id"):
        fleet.client().direct({}, wrong)


@pytest.mark.parametrize("mode", ["round_robin", "random"])
async def test_a_worker_that_came_and_went_within_a_batch_is_not_picked(fleet, mode: str) -> None:
    for _ in range(2):
        fleet.add(count)
    client = fleet.client(mode)
    up, down = (Change(fleet.instances[1], up=up) for up in (True, False))
    for changes in ([down], [up, down], [up, down, up, down]):
        client.table._apply(changes)
        for _ in range(10):
            assert await collect(client.generate({"n": 1})) == [0]
    client.table._apply([up, down, up])
    for _ in range(20):
        await collect(client.generate({"n": 1}))
    assert 101 in fleet.network.sent


async def test_a_plane_that_cancels_its_ack_does_not_cancel_the_caller(fleet, monkeypatch) -> None:
    fleet.add(count)
    client = fleet.client()
    acked = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(client.table.worker(100).routes[0].transport, "send", lambda *_: acked)
    calling = asyncio.ensure_future(collect(client.generate({"n": 1})))
    await eventually(lambda: fleet.network.waiting)
    acked.cancel()
    with pytest.raises(DeliveryUnknown, match="connection_lost"):
        await calling


# ── time ──


async def test_a_deadline_before_the_ack(fleet) -> None:
    fleet.add(count)
    fleet.network.silent.add(100)
    with pytest.raises(DeadlineExceeded, match="ack"):
        await collect(fleet.client().generate({"n": 1}, timeout=0.05))
    assert not fleet.network.waiting


async def test_a_deadline_in_the_answer_stops_the_handler(fleet) -> None:
    silent = Silent()
    fleet.add(silent)
    with pytest.raises(DeadlineExceeded) as caught:
        await collect(fleet.client().generate({}, timeout=0.1))
    assert caught.value.items_received == 0
    await asyncio.wait_for(silent.cancelled.wait(), 1)


async def test_a_deadline_while_items_come_tells_how_many_came(fleet) -> None:
    endless = Endless()
    fleet.add(endless)
    with pytest.raises(DeadlineExceeded) as caught:
        await collect(fleet.client().generate({}, timeout=0.1))
    assert caught.value.items_received > 0
    await eventually(lambda: endless.ended == ["cancelled"], within=5)


async def test_a_deadline_that_has_passed_sends_nothing(fleet) -> None:
    fleet.add(count)
    with pytest.raises(DeadlineExceeded):
        await collect(fleet.client().generate({"n": 1}, timeout=0))
    assert fleet.network.sent == []
    with pytest.raises(ValueError, match="timeout"):
        fleet.client().generate({}, timeout=-1)


async def test_the_worker_keeps_the_deadline_even_if_nobody_tells_it(fleet) -> None:
    silent = Silent()
    fleet.add(silent)
    stream = await fleet.client().generate({}, timeout=0.1)
    await silent.started.wait()
    fleet.network.homes[0].pending.close = lambda: None  # the frontend vanishes without a word
    await asyncio.wait_for(silent.cancelled.wait(), 1)
    with pytest.raises((DeadlineExceeded, StreamBroken)):
        await collect(stream)


@pytest.mark.parametrize("first", ["ack"], indirect=True)
async def test_a_worker_that_never_calls_home(fleet) -> None:
    silent = Silent()
    fleet.add(silent)
    fleet.network.call_home.clear()
    fleet.call_home_timeout = 0.05
    with pytest.raises(DeliveryUnknown, match=r"DYN_CALL_HOME_TIMEOUT.*died.*DYN_RESPONSE_ALLOW") as caught:
        await collect(fleet.client().generate({}))
    assert caught.value.reason == "never_called_home"
    fleet.network.call_home.set()  # it calls home later, and is killed
    await eventually(lambda: not fleet.workers[0].running, within=5)


@pytest.mark.parametrize("first", ["ack"], indirect=True)
async def test_a_stream_that_is_read_late_is_whole(fleet) -> None:
    fleet.add(count)
    fleet.call_home_timeout = 0.05
    stream = await fleet.client().generate({"n": 3})
    await asyncio.sleep(0.15)
    assert await collect(stream) == [0, 1, 2]


async def test_errors_count_what_was_yielded_also_for_a_reader_that_pauses(fleet) -> None:
    fleet.add(Endless(pause=0.002))
    items = []
    with pytest.raises(DeadlineExceeded) as caught:  # noqa: PT012
        async for item in fleet.client().generate({}, timeout=0.2):
            items.append(item)
            if item == 3:
                await asyncio.sleep(0.3)
    assert len(items) > 4
    assert caught.value.items_received == len(items)


async def test_a_reader_that_pauses_does_not_make_a_stream_idle(fleet) -> None:
    fleet.add(Endless(pause=0.01))
    fleet.idle_timeout = 0.1
    async for item in fleet.client().generate({}):
        await asyncio.sleep(0.15 if item < 3 else 0)
        if item == 20:
            break


@pytest.mark.parametrize("first", ["ack"], indirect=True)
async def test_the_idle_time_counts_from_the_call_home(fleet) -> None:
    silent = Silent()
    fleet.add(silent)
    fleet.idle_timeout = 0.1
    fleet.network.call_home.clear()
    call = asyncio.ensure_future(collect(fleet.client().generate({})))
    await asyncio.sleep(0.2)
    assert not call.done()
    fleet.network.call_home.set()
    with pytest.raises(StreamBroken, match="DYN_STREAM_IDLE_TIMEOUT"):
        await call


async def test_an_idle_stream_is_broken_where_that_is_switched_on(fleet) -> None:
    silent = Silent()
    fleet.add(silent)
    fleet.idle_timeout = 0.05
    with pytest.raises(StreamBroken, match="DYN_STREAM_IDLE_TIMEOUT"):
        await collect(fleet.client().generate({}))
    await asyncio.wait_for(silent.cancelled.wait(), 1)


@pytest.mark.parametrize("timeout", [1e14, 1e300, 1e308, float("inf")])
async def test_a_timeout_of_any_length(fleet, timeout: float) -> None:
    fleet.add(count)
    assert await collect(fleet.client().generate({"n": 2}, timeout=timeout)) == [0, 1]


@pytest.mark.parametrize("first", ["ack"])
async def test_who_never_called_home_is_told_by_the_deadline_too(fleet) -> None:
    """Whoever reads late gets the reason for which the call ended."""
    fleet.network.call_home.clear()
    fleet.call_home_timeout = 0.02
    fleet.add(count)
    stream = await fleet.client().generate({"n": 1}, timeout=0.1)
    await asyncio.sleep(0.2)
    with pytest.raises(DeliveryUnknown, match="never_called_home"):
        await collect(stream)


# ── connections that break ──


async def test_a_broken_stream_never_looks_complete(fleet) -> None:
    endless = Endless()
    fleet.add(endless)
    stream = fleet.client().generate({})
    items = []
    with pytest.raises(StreamBroken) as caught:  # noqa: PT012
        async for item in stream:
            items.append(item)
            if item == 3:
                fleet.network.homes[0].lose()
    assert caught.value.items_received == len(items) == stream.items_received
    with pytest.raises(StreamBroken):
        await collect(stream)
    await eventually(lambda: endless.ended == ["cancelled"], within=5)


async def test_a_close_after_the_callers_own_stop_is_not_a_broken_stream(fleet) -> None:
    endless = Endless()
    fleet.add(endless)
    stream = fleet.client().generate({})
    async for item in stream:
        if item == 1:
            stream._stopping = True  # asked to stop, and the peer simply closes, as Dynamo does
            fleet.network.homes[0].lose()


async def test_a_slow_reader_slows_the_handler(fleet) -> None:
    fleet.add(Endless(pause=0))
    stream = await fleet.client().generate({})
    await eventually(lambda: fleet.network.homes)
    home = fleet.network.homes[0]
    home.writable.clear()
    await asyncio.sleep(0.02)
    written = home.written
    await asyncio.sleep(0.02)
    assert home.written <= written + 1
    home.writable.set()
    await eventually(lambda: home.written > written + 1)
    await stream.aclose()


async def test_a_handler_that_never_awaits_gives_way(fleet) -> None:
    async def busy(request):
        for i in range(100_000):
            yield i

    fleet.add(busy)
    fleet.add(count)
    client = fleet.client()
    long = await client.direct({}, 0)
    assert await asyncio.wait_for(collect(client.direct({"n": 3}, 1)), 1) == [0, 1, 2]
    assert fleet.network.homes[0].written < 50_000
    await long.aclose()


async def test_observers_see_each_call_and_handler_once(fleet) -> None:
    seen: list[Any] = []

    class Watching(Observer):
        def call_started(self, request_id, instance, plane) -> None:
            seen.append(("call", instance.instance_id, plane))

        def call_finished(self, request_id, items, error) -> None:
            seen.append(("called", items, error))

        def handler_started(self, request_id, endpoint) -> None:
            seen.append(("handler", str(endpoint)))

        def handler_finished(self, request_id, items, error) -> None:
            seen.append(("handled", items, error))

    fleet.observers = (Watching(),)
    fleet.add(count)
    await collect(fleet.client().generate({"n": 2}))
    assert sorted(map(str, seen)) == sorted(
        map(
            str,
            [("call", 0, "memory"), ("handler", "ns.comp.ep"), ("handled", 2, None), ("called", 2, None)],
        )
    )


# ── metadata ──


async def test_metadata_travels_and_is_handed_on_with_the_context(fleet) -> None:
    async def outer(request, context):
        if not request:
            yield dict(context.metadata)
            return
        async for item in client.generate(None, context=context):
            yield item

    fleet.add(outer)
    client = fleet.client()
    context = Context("r", metadata={"tenant": "ä"})
    assert [item async for item in client.generate(True, context=context)] == [{"tenant": "ä"}]


async def test_metadata_that_is_too_long_for_a_head_is_not_sent(fleet) -> None:
    fleet.add(count)
    context = Context(metadata={"much": "x" * 70_000})
    with pytest.raises(FrameTooLarge, match="metadata"):
        await fleet.client().generate(1, context=context)
    assert fleet.network.sent == []


async def test_a_handler_that_hands_are_kept_off_sees_that_it_was_killed(fleet) -> None:
    handler = Endless()
    fleet.add(handler, hands_off=True)
    async for _ in fleet.client().generate(None):
        break
    await eventually(lambda: handler.ended == ["stopped"])
    assert handler.contexts[0].is_killed()
    await eventually(lambda: not fleet.workers[0].running)


async def test_its_answer_ends_when_it_is_stopped_whatever_it_does(fleet) -> None:
    go = asyncio.Event()

    async def deaf(request, context):
        yield 0
        await go.wait()
        yield 1

    fleet.add(deaf, hands_off=True)
    stream = fleet.client().generate(None)
    items = []
    async for item in stream:
        items.append(item)
        stream.stop_generating()
    assert items == [0]
    assert len(fleet.workers[0].running) == 1
    go.set()
    await eventually(lambda: not fleet.workers[0].running)
