"""The runtime of a Dynamo program: opened late, closed in order, and clear about what it can't do."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import reqplane.dynamo as dynamo
from memory_planes import eventually
from reqplane import HandlerFailed, PluginError, SettingsError
from reqplane.dynamo import (
    Annotated,
    Context,
    DistributedRuntime,
    PyAsyncRequestStream,
    RouterMode,
    dynamo_worker,
    environment,
)
from reqplane.dynamo.handlers import adapt
from reqplane.dynamo.logging import configure_dynamo_logging
from reqplane.errors import DiscoveryUnavailable

from .missing import is_missing

VARIABLES = {
    "DYN_TCP_RPC_HOST": "127.0.0.1",
    "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
    "DYN_TCP_RESPONSE_STREAM_PORT": "0",
}


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    for name in ("SYSTEM_PORT", "LOG", "REQUEST_PLANE", "DISCOVERY_BACKEND", "WIRE_PROFILE"):
        monkeypatch.delenv(f"DYN_{name}", raising=False)


def make(discovery: str = "mem", plane: str = "tcp", **more: Any) -> DistributedRuntime:
    return DistributedRuntime(asyncio.get_running_loop(), discovery, plane, **more)


class Service:
    """A handler, served in a runtime of its own, and a client of it."""

    def __init__(self, handler: Any, *, streamed: bool = False) -> None:
        self.runtime = make()
        self.endpoint = self.runtime.endpoint("ns.comp.ep")
        serve = self.endpoint.serve_bidirectional_endpoint if streamed else self.endpoint.serve_endpoint
        self.serving = serve(handler)

    async def client(self) -> dynamo.Client:
        client = await self.endpoint.client()
        await client.wait_for_instances()
        return client

    async def close(self) -> None:
        await self.runtime.closed()
        await self.serving


async def count(request: int, context: Context) -> AsyncIterator[int]:
    for i in range(request):
        yield i


# ── opening and closing ──


async def test_nothing_is_opened_before_it_is_needed() -> None:
    runtime = make("etcd")  # which is not there
    endpoint = runtime.endpoint("dyn://ns.comp.ep")
    assert endpoint.connection_id() == runtime.endpoint("a.b.c").connection_id()
    runtime.shutdown()
    await runtime.closed()


async def test_a_runtime_that_could_not_be_opened_may_be_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "discovery"
    folder.write_text("no folder")
    monkeypatch.setenv("DYN_FILE_KV", str(folder))
    runtime = make("file")
    endpoint = runtime.endpoint("ns.comp.ep")
    with pytest.raises(DiscoveryUnavailable):
        await endpoint.client()
    folder.unlink()
    assert (await endpoint.client()).instance_ids() == []
    await runtime.closed()


async def test_a_worker_is_served_before_it_is_awaited_and_leaves_at_shutdown() -> None:
    service = Service(count)
    client = await service.client()
    assert client.instance_ids() == [service.endpoint.connection_id()]
    service.runtime.shutdown()
    assert await service.serving is None
    await service.runtime.closed()
    with pytest.raises(RuntimeError, match="shut down"):
        await service.endpoint.client()


async def test_serving_after_a_shutdown_is_over_at_once() -> None:
    """A signal that comes while a program starts is no error."""
    runtime = make("mem")
    runtime.shutdown()
    await runtime.endpoint("ns.comp.ep").serve_endpoint(count)
    await runtime.closed()


@pytest.mark.parametrize(
    ("instance", "wanted", "text"),
    [
        ("5", TypeError, "argument 'instance_id': 'str' object cannot be interpreted as an integer"),
        (5.0, TypeError, "argument 'instance_id': 'float' object cannot be interpreted as an integer"),
        (None, TypeError, "argument 'instance_id': 'NoneType' object cannot be interpreted as an integer"),
        (-1, OverflowError, "can't convert negative int to unsigned"),
        (2**64, OverflowError, "int too big to convert"),
        (True, Exception, "Unavailable: instance_id=1 not found for endpoint ns/comp/ep"),
    ],
)
async def test_a_call_to_what_is_no_number(instance: Any, wanted: type[Exception], text: str) -> None:
    """In the words of Dynamo 1.6.1."""
    service = Service(count)
    client = await service.client()
    with pytest.raises(wanted) as caught:
        await client.direct(1, instance)
    assert type(caught.value) is wanted
    assert str(caught.value) == text
    await service.close()


async def test_the_latest_runtime_of_the_process() -> None:
    runtime = make()
    assert DistributedRuntime.detached() is runtime
    assert runtime.event_loop() is asyncio.get_running_loop()
    assert runtime.system_status_server_url() is None


async def test_a_dynamo_worker_closes_what_it_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYN_REQUEST_PLANE", "tcp")
    monkeypatch.setenv("DYN_DISCOVERY_BACKEND", "mem")
    seen: list[Any] = []

    @dynamo_worker()
    async def main(runtime: DistributedRuntime, text: str, *, number: int) -> None:
        """Its text."""
        seen.extend((text, number, await runtime.endpoint("ns.comp.ep").client()))
        seen.append(runtime.endpoint("ns.comp.ep").serve_endpoint(count))
        await asyncio.sleep(0)
        raise KeyError(text)

    assert main.__doc__ == "Its text."
    with pytest.raises(KeyError):
        await main("text", number=5)
    assert seen[:2] == ["text", 5]
    assert await asyncio.wait_for(seen[3], 5) is None


def test_a_runtime_that_nobody_shut_down_ends_with_the_loop() -> None:
    async def main() -> None:
        await make().endpoint("ns.comp.ep").client()

    asyncio.run(main())


async def test_the_defaults_are_dynamos(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.default_planes() == ("etcd", "tcp")
    monkeypatch.setenv("DYN_REQUEST_PLANE", "nats")
    monkeypatch.setenv("DYN_DISCOVERY_BACKEND", "file")
    assert environment.default_planes() == ("file", "nats")
    assert environment.overrides("mem", "tcp")["DYN_WIRE_PROFILE"] == "dynamo"
    monkeypatch.setenv("DYN_WIRE_PROFILE", "guide")
    assert environment.overrides("mem", "tcp")["DYN_WIRE_PROFILE"] == "guide"


async def test_the_workers_id_is_that_of_dynamos_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYN_WIRE_PROFILE", "guide")
    with pytest.raises(NotImplementedError, match="DYN_WIRE_PROFILE"):
        make().endpoint("ns.comp.ep").connection_id()


# ── what can't be ──


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"discovery": "kubernetes"}, PluginError),
        ({"plane": "quic"}, PluginError),
        ({"discovery": "no name!"}, SettingsError),
        ({"plane": None}, TypeError),
        ({"plane": True}, NotImplementedError),
        ({"event_plane": "zmq"}, NotImplementedError),
        ({"response_plane": "quic"}, NotImplementedError),
    ],
)
async def test_arguments_that_can_not_be_used(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        make(**arguments)


async def test_a_status_server_is_not_forgotten_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYN_SYSTEM_PORT", "8081")
    with pytest.raises(NotImplementedError, match="DYN_SYSTEM_PORT=8081"):
        make()
    monkeypatch.setenv("DYN_SYSTEM_PORT", "-1")
    make()


MISSING = [
    (cls, name)
    for cls in (DistributedRuntime, dynamo.Endpoint, dynamo.Client)
    for name in vars(cls)
    if is_missing(cls, name)
]


@pytest.mark.parametrize(("cls", "name"), MISSING)
async def test_what_is_missing_says_so_where_it_is_called(cls: type[Any], name: str) -> None:
    runtime = make()
    endpoint = runtime.endpoint("ns.comp.ep")
    of = {DistributedRuntime: runtime, dynamo.Endpoint: endpoint, dynamo.Client: await endpoint.client()}[cls]
    with pytest.raises(NotImplementedError, match=r"is not supported by Reqplane: \w"):
        call_with_anything(of, name)
    await runtime.closed()


def call_with_anything(of: object, name: str) -> None:
    member = getattr(of, name)  # of a property, this is the call
    needed = member.__code__.co_argcount - 1 - len(member.__defaults__ or ())
    member(*["x"] * needed)


@pytest.mark.parametrize("mode", RouterMode)
async def test_router_modes(mode: RouterMode) -> None:
    runtime = make()
    endpoint = runtime.endpoint("ns.comp.ep")
    if mode in (RouterMode.KV, RouterMode.DeviceAwareWeighted):
        with pytest.raises(NotImplementedError, match=f"{mode} is not supported"):
            endpoint.client(mode)
    else:
        assert isinstance(await endpoint.client(router_mode=mode), dynamo.Client)
    await runtime.closed()


async def coroutine(request: Any) -> int:
    return 1


def generator(request: Any):
    yield 1


async def other_name(request: Any, ctx: Context) -> AsyncIterator[int]:
    yield 1


async def nothing() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("handler", [5, coroutine, generator, other_name, nothing])
def test_handlers_that_can_not_be_served(handler: Any) -> None:
    with pytest.raises(TypeError):
        adapt(handler)


@pytest.mark.parametrize("labels", [["model"], [("a", "b", "c")], [("a", 1)]])
async def test_labels_that_are_none(labels: Any) -> None:
    with pytest.raises(TypeError, match="metrics_labels"):
        make().endpoint("ns.comp.ep").serve_endpoint(count, metrics_labels=labels)
    with pytest.raises(TypeError, match="health_check_payload"):
        make().endpoint("ns.comp.ep").serve_endpoint(count, health_check_payload=labels)


# ── answers ──


async def test_an_item_that_was_not_waited_for_long_enough_still_comes() -> None:
    """Cancelling one wait must not look like the end of the answer."""
    go = asyncio.Event()

    async def slow(request: Any, context: Context) -> AsyncIterator[int]:
        yield 0
        await go.wait()
        yield 1

    service = Service(slow)
    client = await service.client()
    for context in (None, Context()):
        go.clear()
        answer = await client.random({}, annotated=False, context=context)
        assert await anext(answer) == 0
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(answer), 0.05)
        go.set()
        assert [item async for item in answer] == [1]
        assert [item async for item in answer] == []
    await service.close()


async def test_two_tasks_can_not_read_one_answer() -> None:
    async def waits(request: Any, context: Context) -> AsyncIterator[int]:
        await context.async_killed_or_stopped()
        yield 0

    service = Service(waits)
    context = Context()
    answer = await (await service.client()).random({}, annotated=False, context=context)
    first = asyncio.ensure_future(anext(answer, None))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already running"):
        await anext(answer)
    context.stop_generating()
    assert await first is None
    await service.close()


async def test_what_has_come_before_a_stop_is_still_given_out() -> None:
    service = Service(count)
    client = await service.client()
    context = Context()
    answer = await client.random(50, annotated=False, context=context)
    assert await anext(answer) == 0
    await asyncio.sleep(0.1)  # the other 49 come meanwhile
    context.stop_generating()
    assert [item async for item in answer] == list(range(1, 50))
    await service.close()


async def test_a_task_that_is_cancelled_while_its_call_is_stopped_is_cancelled() -> None:
    async def waits(request: Any, context: Context) -> AsyncIterator[int]:
        yield 0
        await context.async_killed_or_stopped()

    service = Service(waits)
    client = await service.client()
    context = Context()
    answer = await client.random({}, annotated=False, context=context)
    await anext(answer)

    async def read() -> None:
        await anext(answer, None)

    reading = asyncio.ensure_future(read())
    await asyncio.sleep(0.01)
    context.stop_generating()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await service.close()


async def test_a_failure_is_raised_once_and_then_the_answer_is_at_its_end() -> None:
    async def fails(request: Any) -> AsyncIterator[int]:
        yield 0
        raise KeyError("x")

    service = Service(fails)
    answer = await (await service.client()).random({})
    assert (await anext(answer)).data() == 0
    with pytest.raises(ValueError, match="Internal: KeyError: 'x'") as caught:
        await anext(answer)
    assert isinstance(caught.value.__cause__, HandlerFailed)
    assert [item async for item in answer] == []
    await service.close()


async def test_an_item_without_data_is_left_out_unless_annotations_are_wanted() -> None:
    async def some(request: Any) -> AsyncIterator[Any]:
        yield None
        yield 0
        yield None

    service = Service(some)
    client = await service.client()
    assert [item async for item in await client.random({}, annotated=False)] == [0]
    assert [item.data() async for item in await client.random({})] == [None, 0, None]
    await service.close()


async def test_dropping_an_answer_kills_its_handler_which_closes_it_after_one_more_item() -> None:
    seen: list[Any] = []

    async def endless(request: Any, context: Context) -> AsyncIterator[int]:
        try:
            for i in range(10_000):
                yield i
                if context.is_killed():
                    seen.append("killed")
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            seen.append("closed")

    service = Service(endless)
    answer = await (await service.client()).random({})
    await anext(answer)
    del answer
    gc.collect()
    await eventually(lambda: "closed" in seen)
    assert seen == ["killed", "closed"]
    await service.close()


async def test_a_handler_that_gives_no_async_iterator() -> None:
    service = Service(lambda request: [1, 2])
    answer = await (await service.client()).random({})
    with pytest.raises(ValueError, match="'list' object has no attribute '__anext__'"):
        await anext(answer)
    await service.close()


async def test_a_request_that_can_not_be_encoded() -> None:
    service = Service(count)
    client = await service.client()
    with pytest.raises(TypeError, match="set"):
        await client.random({1, 2})
    await service.close()


class Echo:
    """A bidirectional handler, which notes how the request ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[bool, bool]] = []

    async def __call__(self, requests: PyAsyncRequestStream, context: Context) -> AsyncIterator[Any]:
        async for request in requests:
            yield request
        self.ended.append((context.is_stopped(), context.is_killed()))
        assert [request async for request in requests] == []
        yield "last"


async def test_a_request_that_is_a_stream() -> None:
    async def requests() -> AsyncIterator[int]:
        for i in range(3):
            yield i

    echo = Echo()
    service = Service(echo, streamed=True)
    client = await service.client()
    assert [item async for item in await client.random(requests(), annotated=False)] == [0, 1, 2, "last"]
    assert echo.ended == [(False, False)]
    await service.close()


@pytest.mark.parametrize("way", ["stop", "drop"])
async def test_a_request_that_does_not_come_whole_ends_and_the_context_says_why(way: str) -> None:
    """As recorded from Dynamo 1.6.1."""

    async def requests() -> AsyncIterator[int]:
        yield 0
        await asyncio.Event().wait()

    echo = Echo()
    service = Service(echo, streamed=True)
    context = Context()
    answer = await (await service.client()).random(requests(), annotated=False, context=context)
    assert await anext(answer) == 0
    if way == "stop":
        context.stop_generating()
        assert [item async for item in answer] == []
    else:
        del answer
        gc.collect()
    await eventually(lambda: echo.ended == [(True, way == "drop")])
    await service.close()


async def test_the_trace_that_came_with_a_request_is_shown() -> None:
    own = Context("id").own
    own.headers = {
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
        "tracestate": "x=y",
        "request-id": "id",
        "x-dynamo-request-id": "not for engines",
    }
    context = Context.of(own)
    assert (context.trace_id, context.span_id, context.parent_span_id) == ("a" * 32, "b" * 16, None)
    assert context.trace_headers() == {
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
        "tracestate": "x=y",
        "request-id": "id",
    }
    assert context.detached("other").trace_headers() == context.trace_headers()
    with context.start_span("step", {"a": 1}) as span, context.current_span() as outer:
        span.set_attribute("key", 1)
        span.add_event("event")
        outer.set_status("ok")


def test_an_annotated_item_shows_what_came_with_it() -> None:
    item = Annotated({"event": "e", "comment": ["c", "d"], "id": "7"})
    assert (item.data(), item.event(), item.comments(), item.id()) == (None, "e", ["c", "d"], "7")
    assert repr(item) == 'Annotated(data=<no_data>, event=e, comment=["c", "d"], id=7)'  # as Dynamo 1.6.1's
    assert not item.is_error()


# ── logging ──


def test_configuring_the_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DYN_LOG", "warn")
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure_dynamo_logging("service", 5)
        logging.getLogger("mine").warning("hot")
        logging.getLogger("mine").info("cold")
        line = capsys.readouterr().err
        assert line.endswith("WARNING [service:5] mine: hot\n")
        assert len(root.handlers) == 1
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def test_static_and_enable_nats() -> None:
    with pytest.warns(DeprecationWarning, match="enable_nats"):
        dynamo_worker(True)
    with pytest.raises(NotImplementedError, match="static"):
        dynamo_worker(static=True)
