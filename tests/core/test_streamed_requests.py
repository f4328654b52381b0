"""Requests that are streams themselves, from `client.generate` to the handler and back, in both orders."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from memory_planes import eventually
from reqplane.codecs import MsgpackCodec
from reqplane.context import Context
from reqplane.errors import (
    CannotConnect,
    DeadlineExceeded,
    DeliveryUnknown,
    HandlerFailed,
    InvalidFrame,
    NoInstances,
    PayloadError,
    ReqplaneError,
    RequestBroken,
    StreamBroken,
    WorkerBusy,
)
from reqplane.handlers import adapt
from reqplane.interfaces import Observer
from reqplane.model import Broken, End, Instance
from reqplane.request_stream import RequestStream

from .test_stream import collect


class Source:
    """The caller's items; notes how many were asked for, and whether it was closed."""

    def __init__(self, *items: Any, endless: bool = False, error: BaseException | None = None) -> None:
        self.items = items
        self.endless = endless
        self.error = error
        self.pulled = 0
        self.closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            for item in self.items:
                self.pulled += 1
                yield item
            if self.error is not None:
                raise self.error
            if self.endless:
                await asyncio.Event().wait()
        finally:
            self.closed.set()


class Handler:
    """Echoes what it reads, and notes how the request and it itself ended."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.contexts: list[Context] = []
        self.ended: list[str] = []

    async def __call__(self, request: RequestStream, context: Context):
        self.contexts.append(context)
        try:
            async for item in request:
                self.got.append(item)
                yield item
            self.ended.append("whole")
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise


async def ended(handler: Handler) -> str:
    """How it ended, once."""
    await eventually(lambda: handler.ended)
    assert len(handler.ended) == 1
    return handler.ended[0]


# ── whole requests ──


@pytest.mark.parametrize("how", ["generate", "round_robin", "random", "direct"])
async def test_items_go_in_and_answers_come_out(fleet, how: str) -> None:
    handler = Handler()
    fleet.add(handler, streamed=True)
    client = fleet.client()
    source = Source(1, "two", {"three": [3]}, None, b"")
    call = client.direct(source, 0) if how == "direct" else getattr(client, how)(source)
    assert await collect(call) == [1, "two", {"three": [3]}, None, b""]
    assert await ended(handler) == "whole"
    assert source.closed.is_set()
    await eventually(lambda: not fleet.workers[0].running)
    assert not fleet.network.waiting


async def test_the_handler_need_not_take_a_context_and_may_be_a_coroutine(fleet) -> None:
    async def total(request):
        return sum([item async for item in request])

    async def reversed_pairs(request):
        async for a, b in request:
            yield [b, a]

    fleet.add(total, streamed=True)
    fleet.add(reversed_pairs, streamed=True)
    client = fleet.client()
    assert await collect(client.direct(Source(1, 2, 3), 0)) == [6]
    assert await collect(client.direct(Source([1, 2], [3, 4]), 1)) == [[2, 1], [4, 3]]


async def test_a_request_of_no_items(fleet) -> None:
    handler = Handler()
    fleet.add(handler, streamed=True)
    assert await collect(fleet.client().generate(Source())) == []
    assert await ended(handler) == "whole"


async def test_an_answer_may_begin_late_and_go_on_after_the_request(fleet) -> None:
    async def handler(request):
        count = len([item async for item in request])
        for i in range(count):
            yield i
            await asyncio.sleep(0.001)
        with pytest.raises(StopAsyncIteration):
            await anext(request)
        assert request.items_received == count

    fleet.add(handler, streamed=True)
    source = Source(*range(50))
    assert await collect(fleet.client().generate(source)) == list(range(50))


async def test_any_async_iterable_will_do(fleet) -> None:
    class Bare:
        """An iterator that is no iterable itself, and can't be closed."""

        def __init__(self) -> None:
            self.left = [3, 2, 1]

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    class Iterable:
        def __aiter__(self) -> Any:
            return Bare()

    fleet.add(Handler(), streamed=True)
    assert await collect(fleet.client().generate(Iterable())) == [1, 2, 3]


async def test_an_iterable_that_never_awaits_gives_way(fleet) -> None:
    seen = 0

    async def handler(request):
        nonlocal seen
        async for _ in request:
            seen += 1
        yield seen

    fleet.add(handler, streamed=True)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(tick())
    assert await collect(fleet.client().generate(Source(*range(3000)))) == [3000]
    other.cancel()
    assert ticks > 50


async def test_observers_hear_of_it_once(fleet) -> None:
    class Log(Observer):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def call_started(self, request_id: str, instance: Instance, plane: str) -> None:
            self.heard.append("call started")

        def call_finished(self, request_id: str, items: int, error: BaseException | None) -> None:
            self.heard.append(f"call finished, {items}, {error!r}")

        def handler_finished(self, request_id: str, items: int, error: BaseException | None) -> None:
            self.heard.append(f"handler finished, {items}, {error!r}")

    log = Log()
    fleet.observers = (log,)
    fleet.add(Handler(), streamed=True)
    await collect(fleet.client().generate(Source(1, 2, 3)))
    assert sorted(log.heard) == ["call finished, 3, None", "call started", "handler finished, 3, None"]


# ── which worker ──


async def test_nothing_is_pulled_before_a_worker_has_called_home(fleet) -> None:
    fleet.add(Handler(), streamed=True)
    fleet.network.call_home.clear()
    source = Source(1, 2)
    stream = fleet.client().generate(source)
    assert source.pulled == 0
    calling = asyncio.ensure_future(collect(stream))
    await eventually(lambda: fleet.workers[0].running)
    await asyncio.sleep(0.02)
    assert source.pulled == 0
    fleet.network.call_home.set()
    assert await calling == [1, 2]


async def test_another_worker_gets_the_whole_request_after_a_failure_before_that(fleet) -> None:
    handlers = [Handler() for _ in range(3)]
    for handler in handlers:
        fleet.add(handler, streamed=True)
    fleet.network.fail[100] = CannotConnect("nobody there", address="x")
    fleet.network.fail[101] = WorkerBusy("enough")
    source = Source(1, 2)
    assert await collect(fleet.client().round_robin(source)) == [1, 2]
    assert fleet.network.sent == [100, 101, 102]
    assert [handler.got for handler in handlers] == [[], [], [1, 2]]


async def test_a_call_that_nobody_takes_leaves_the_items_alone(fleet) -> None:
    source = Source(1)
    with pytest.raises(NoInstances):
        await collect(fleet.client().generate(source))
    assert source.pulled == 0


async def test_a_worker_that_never_calls_home(fleet) -> None:
    fleet.call_home_timeout = 0.05
    fleet.network.first = "ack"
    fleet.add(Handler(), streamed=True)
    fleet.network.call_home.clear()
    source = Source(1)
    with pytest.raises(DeliveryUnknown, match="never_called_home"):
        await collect(fleet.client().generate(source))
    assert source.pulled == 0
    fleet.network.call_home.set()


async def test_a_request_that_has_begun_goes_nowhere_else(fleet) -> None:
    handlers = [Handler(), Handler()]
    for handler in handlers:
        fleet.add(handler, streamed=True)
    source = Source(1, endless=True)
    stream = await fleet.client().direct(source, 0)
    items = aiter(stream)
    assert await anext(items) == 1
    (home,) = fleet.network.homes
    home.lose()
    with pytest.raises(StreamBroken):
        await anext(items)
    await asyncio.wait_for(source.closed.wait(), 1)
    assert fleet.network.sent == [100]


async def test_an_endpoint_of_the_other_kind(fleet) -> None:
    async def single(request):
        yield request

    fleet.add(single)
    fleet.add(Handler(), streamed=True)
    client = fleet.client()
    source = Source(1)
    with pytest.raises(InvalidFrame, match="takes single requests, and this one is a stream"):
        await collect(client.direct(source, 0))
    assert source.pulled == 0
    with pytest.raises(InvalidFrame, match="takes requests that are streams, and this one is single"):
        await collect(client.direct([1, 2], 1))


def test_a_generator_that_runs_in_a_thread_cannot_read_a_stream() -> None:
    def handler(request):
        yield 1

    with pytest.raises(TypeError, match="wanted an async generator function or a coroutine function"):
        adapt(handler, streamed=True)


# ── the caller's side ends it ──


async def test_what_the_iterable_raises_ends_the_call(fleet) -> None:
    handler = Handler()
    fleet.add(handler, streamed=True)
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        await collect(fleet.client().generate(Source(1, error=error)))
    assert caught.value is error
    assert await ended(handler) in ("RequestBroken", "CancelledError", "GeneratorExit")
    await eventually(lambda: not fleet.workers[0].running)


async def test_what_it_raised_is_raised_again_by_a_second_loop(fleet) -> None:
    fleet.add(Handler(), streamed=True)
    stream = await fleet.client().generate(Source(1, 2, error=ValueError("mine")))
    for _ in range(2):  # the second time too
        with pytest.raises(ValueError, match="mine"):
            await collect(stream)


async def test_an_item_that_the_codec_cannot_carry(fleet) -> None:
    handler = Handler()
    fleet.add(handler, streamed=True)
    source = Source(1, 2, object(), 4)
    with pytest.raises(PayloadError, match="item 2 of the request can't be carried") as caught:
        await collect(fleet.client().generate(source))
    assert (caught.value.index, caught.value.in_request) == (2, True)
    assert caught.value.request_id == handler.contexts[0].id
    assert await ended(handler) != "whole"
    assert source.closed.is_set()
    assert source.pulled == 3


async def test_an_iterable_that_was_cancelled(fleet) -> None:
    handler = Handler()
    fleet.add(handler, streamed=True)
    with pytest.raises(RequestBroken, match="after 1 items: the iterable of its items raised CancelledError"):
        await collect(fleet.client().generate(Source(1, error=asyncio.CancelledError())))
    assert await ended(handler) != "whole"


async def test_something_that_only_looks_like_an_iterable(fleet) -> None:
    class Odd:
        def __aiter__(self) -> Any:
            return 7

    fleet.add(Handler(), streamed=True)
    with pytest.raises(TypeError, match="not an async iterator"):
        await collect(fleet.client().generate(Odd()))


async def test_leaving_the_loop_ends_both(fleet) -> None:
    handler = Handler()
    fleet.add(handler, streamed=True)
    source = Source(1, endless=True)
    async for item in fleet.client().generate(source):
        assert item == 1
        break
    await asyncio.wait_for(source.closed.wait(), 1)
    assert await ended(handler) in ("RequestBroken", "CancelledError")
    await eventually(lambda: not fleet.workers[0].running)


async def test_a_handler_that_waits_for_something_else_is_cancelled(fleet) -> None:
    waits, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(request):
        yield await anext(request)
        waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    fleet.add(handler, streamed=True)
    stream = await fleet.client().generate(Source(1, endless=True))
    await asyncio.wait_for(waits.wait(), 5)
    await stream.aclose()
    await asyncio.wait_for(cancelled.wait(), 1)


async def test_a_handler_that_goes_on_reading_a_broken_request_is_cancelled(fleet) -> None:
    seen: list[str] = []

    async def handler(request):
        yield await anext(request)
        while True:
            try:
                await anext(request)
            except RequestBroken as error:
                seen.append(str(error))

    fleet.add(handler, streamed=True)
    async for _ in fleet.client().generate(Source(1, endless=True)):
        break
    await eventually(lambda: not fleet.workers[0].running)
    assert len(seen) == 1
    assert "the caller is gone" in seen[0]


async def test_a_stream_that_is_dropped_unread(fleet) -> None:
    handler = Handler()
    fleet.add(handler, streamed=True)
    source = Source(1, endless=True)
    await fleet.client().generate(source)
    gc.collect()
    await asyncio.wait_for(source.closed.wait(), 5)
    assert await ended(handler) != "whole"


async def test_stop_generating_breaks_the_request_off_and_keeps_the_answer(fleet, caplog) -> None:
    handler = Handler()
    fleet.add(handler, streamed=True)
    source = Source(1, endless=True)
    stream = await fleet.client().generate(source)
    got = []
    async for item in stream:
        got.append(item)
        stream.stop_generating()
    assert got == [1]
    await asyncio.wait_for(source.closed.wait(), 1)
    assert await ended(handler) == "RequestBroken"
    assert handler.contexts[0].is_stopped()
    assert not handler.contexts[0].is_killed()
    await eventually(lambda: not fleet.workers[0].running)
    assert "failed" not in caplog.text  # as its caller wants it


async def test_a_handler_may_have_a_last_word_after_a_stop(fleet) -> None:
    async def handler(request, context):
        try:
            async for item in request:
                yield item
        except RequestBroken:
            assert context.is_stopped()
            yield "so far"

    fleet.add(handler, streamed=True)
    stream = await fleet.client().generate(Source(1, endless=True))
    got = []
    async for item in stream:
        got.append(item)
        stream.stop_generating()
    assert got == [1, "so far"]


async def test_a_stop_before_the_worker_has_called_home(fleet) -> None:
    fleet.network.first = "ack"
    handler = Handler()
    fleet.add(handler, streamed=True)
    fleet.network.call_home.clear()
    source = Source(1)
    stream = await fleet.client().generate(source)
    stream.stop_generating()
    fleet.network.call_home.set()
    assert await collect(stream) == []
    assert source.pulled == 0
    assert await ended(handler) == "RequestBroken"


@pytest.mark.parametrize("how", ["stop_generating", "kill"])
async def test_the_context_that_it_follows_ends_it(fleet, how: str) -> None:
    handler = Handler()
    fleet.add(handler, streamed=True)
    source = Source(1, endless=True)
    context = Context()
    stream = fleet.client().generate(source, context=context)
    got = []
    async for item in stream:
        got.append(item)
        getattr(context, how)()
    assert got == [1]
    await asyncio.wait_for(source.closed.wait(), 1)
    assert await ended(handler) != "whole"


async def test_a_deadline(fleet) -> None:
    handler = Handler()
    fleet.add(handler, streamed=True)
    source = Source(1, endless=True)
    with pytest.raises(DeadlineExceeded) as caught:
        await collect(fleet.client().generate(source, timeout=0.2))
    assert caught.value.items_received == 1
    await asyncio.wait_for(source.closed.wait(), 1)
    assert await ended(handler) != "whole"


async def test_a_deadline_closes_the_iterable_of_a_stream_that_nobody_reads(fleet) -> None:
    fleet.add(Handler(), streamed=True)
    source = Source(1, endless=True)
    stream = await fleet.client().generate(source, timeout=0.1)
    await asyncio.wait_for(source.closed.wait(), 5)
    with pytest.raises(DeadlineExceeded):
        await collect(stream)


async def test_the_runtime_closes_the_iterable(fleet) -> None:
    fleet.add(Handler(), streamed=True)
    source = Source(1, endless=True)
    stream = await fleet.client().generate(source)
    await eventually(lambda: source.pulled == 1)
    await fleet.host.aclose()
    assert source.closed.is_set()
    with pytest.raises(RequestBroken, match="CancelledError"):
        await collect(stream)


# ── the handler's side ends it ──


async def test_an_answer_that_ends_first_closes_the_iterable(fleet) -> None:
    async def first_only(request):
        yield await anext(request)

    fleet.add(first_only, streamed=True)
    source = Source(1, 2, 3, endless=True)
    assert await collect(fleet.client().generate(source)) == [1]
    await asyncio.wait_for(source.closed.wait(), 1)


async def test_a_handler_that_raises(fleet) -> None:
    async def handler(request):
        yield await anext(request)
        raise ValueError("no more")

    fleet.add(handler, streamed=True)
    source = Source(1, endless=True)
    with pytest.raises(HandlerFailed, match="ValueError: no more"):
        await collect(fleet.client().generate(source))
    await asyncio.wait_for(source.closed.wait(), 1)


async def test_an_endless_iterable_is_not_drawn_from_for_an_answer_that_nobody_reads(fleet) -> None:
    async def nothing(request):
        return
        yield

    fleet.add(nothing, streamed=True)

    class Endless:
        pulled = 0

        async def __aiter__(self) -> AsyncIterator[int]:
            while True:
                self.pulled += 1
                yield self.pulled

    source = Endless()
    stream = await fleet.client().generate(source)
    await eventually(lambda: not fleet.workers[0].running)
    await asyncio.sleep(0.02)
    before = source.pulled
    await asyncio.sleep(0.02)
    assert source.pulled == before < 20
    assert await collect(stream) == []


async def test_a_slow_handler_slows_the_iterable_down(fleet) -> None:
    more = asyncio.Semaphore(0)

    async def handler(request):
        while True:
            await more.acquire()
            try:
                yield await anext(request)
            except StopAsyncIteration:
                return

    fleet.add(handler, streamed=True)
    source = Source(*range(100))
    stream = await fleet.client().generate(source)
    await eventually(lambda: source.pulled >= 4)
    await asyncio.sleep(0.02)
    assert source.pulled == 4  # what the plane takes
    for _ in range(101):
        more.release()
    assert await collect(stream) == list(range(100))


# ── reading it ──


class Home:
    """What a RequestStream reads from; `batches` come one after the other."""

    def __init__(self, *batches: Any) -> None:
        self.batches = list(batches)

    async def receive(self) -> Any:
        await asyncio.sleep(0)
        return self.batches.pop(0)


def text(body: Any) -> str:
    return bytes(body).decode()


def reading(*batches: Any, decode: Callable[[Any], Any] = text) -> RequestStream:
    home: Any = Home(*batches)
    return RequestStream(home, decode, Context())


async def test_items_of_several_batches() -> None:
    request = reading([b"a", b"b"], [b"c"], [End()])
    assert [item async for item in request] == ["a", "b", "c"]
    assert request.items_received == 3
    assert [item async for item in request] == []


async def test_what_is_cut_is_never_the_end_not_even_later() -> None:
    request = reading([b"a", Broken("cut")])
    assert await anext(request) == "a"
    for _ in range(3):
        with pytest.raises(RequestBroken, match="after 1 items: cut") as caught:
            await anext(request)
        assert caught.value.items_received == 1


async def test_two_tasks_cannot_read_at_once() -> None:
    request = reading([End()])
    one = asyncio.ensure_future(anext(request))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another task is reading this request"):
        await anext(request)
    with pytest.raises(StopAsyncIteration):
        await one


async def test_leaving_the_loop_only_pauses_it() -> None:
    request = reading([b"a", b"b"], [End()])
    async for item in request:
        assert item == "a"
        break
    assert [item async for item in request] == ["b"]


async def test_a_time_out_of_the_handler_loses_nothing() -> None:
    class Late(Home):
        gate = asyncio.Event()

        async def receive(self) -> Any:
            await self.gate.wait()
            return await super().receive()

    home: Any = Late([b"a", End()])
    request = RequestStream(home, text, Context())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(request)
    home.gate.set()
    assert [item async for item in request] == ["a"]


async def test_an_item_that_cannot_be_decoded_and_the_ones_after_it() -> None:
    def decode(body: bytes) -> str:
        if body == b"bad":
            raise PayloadError("is bad")
        return body.decode()

    request = reading([b"a", b"bad", b"c", End()], decode=decode)
    assert await anext(request) == "a"
    with pytest.raises(PayloadError, match="item 1 of the request can't be carried: is bad") as caught:
        await anext(request)
    assert request.undecodable is caught.value
    assert await anext(request) == "c"
    with pytest.raises(StopAsyncIteration):
        await anext(request)


async def test_the_caller_hears_which_item_could_not_be_decoded(fleet) -> None:
    class Spoiling(MsgpackCodec):
        def decode(self, data: Any) -> Any:
            value = super().decode(data)
            if value == "spoilt":
                raise PayloadError("is spoilt")
            return value

    fleet.codecs = {**fleet.codecs, "msgpack": Spoiling()}
    fleet.add(Handler(), streamed=True)
    with pytest.raises(PayloadError, match="item 1 of the request can't be carried: is spoilt") as caught:
        await collect(fleet.client().generate(Source("good", "spoilt", "good")))
    assert (caught.value.index, caught.value.in_request) == (1, True)


async def test_another_calls_item_is_not_taken_for_this_ones(fleet) -> None:
    """A handler that calls others itself, and lets their PayloadError out, has failed."""

    async def handler(request):
        yield await anext(request)
        raise PayloadError("of another call", index=3, in_request=True)

    fleet.add(handler, streamed=True)
    with pytest.raises(HandlerFailed, match="PayloadError: item 3 of the request"):
        await collect(fleet.client().generate(Source(1)))


async def test_a_handler_that_never_awaits_gives_way_while_it_reads() -> None:
    request = reading([b"x" * 100] * 200, [End()])
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(tick())
    await asyncio.sleep(0)
    assert len([item async for item in request]) == 200
    other.cancel()
    assert ticks >= 10


async def test_a_request_after_its_handler_has_ended(fleet) -> None:
    kept: list[RequestStream] = []

    async def handler(request):
        kept.append(request)
        yield await anext(request)

    fleet.add(handler, streamed=True)
    assert await collect(fleet.client().generate(Source(1, endless=True))) == [1]
    with pytest.raises(RequestBroken):
        await anext(kept[0])


async def test_an_enveloped_answer_leaves_the_request_bare(fleet) -> None:
    """Dynamo's form: items of the answer are wrapped, those of the request are not."""
    fleet.network.enveloped = True
    handler = Handler()
    fleet.add(handler, streamed=True)
    assert await collect(fleet.client().generate(Source(1, {"data": 2}))) == [1, {"data": 2}]
    assert handler.got == [1, {"data": 2}]


async def test_every_error_of_it_is_ours(fleet) -> None:
    assert issubclass(RequestBroken, ReqplaneError)
    assert str(RequestBroken("cut", items_received=2)) == "the request broke off after 2 items: cut"
