"""`connect()`, on the http plane with discovery in memory."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
from importlib.metadata import EntryPoint
from typing import Any

import pytest
import reqplane
import reqplane.host as host_module
import reqplane.plugins.loading as loading
import reqplane.runtime as runtime_module
from reqplane import PluginBroken, ReqplaneError, SettingsError
from reqplane.discovery.memory import MemoryDiscovery
from reqplane.host import RuntimeHost
from reqplane.interfaces import Observer
from reqplane.model import Limits
from reqplane.plugins import Plugins, load_plugins

ENV = {
    "DYN_REQUEST_PLANE": "http",
    "DYN_DISCOVERY_BACKEND": "mem",
    "DYN_HTTP_RPC_HOST": "127.0.0.1",
    "DYN_HTTP_RPC_PORT": "0",
    "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
    "DYN_TCP_RESPONSE_STREAM_PORT": "0",
}


async def echo(request: Any):
    yield request


async def test_a_worker_and_a_frontend_in_two_runtimes() -> None:
    async with reqplane.connect(ENV) as worker, reqplane.connect(ENV) as frontend:
        serving = asyncio.ensure_future(worker.endpoint("ns.comp.ep").serve_endpoint(echo))
        client = await frontend.endpoint("dyn://ns.comp.ep").client()
        assert await client.wait_for_instances(timeout=5) == [0]
        assert [item async for item in client.generate("hello")] == ["hello"]
        worker.shutdown()
        await serving


class Failing(Observer):
    def call_started(self, request_id: str, instance: Any, plane: str) -> None:
        raise RuntimeError("call_started")

    def call_finished(self, request_id: str, items: int, error: Any) -> None:
        raise RuntimeError("call_finished")

    def handler_started(self, request_id: str, endpoint: Any) -> None:
        raise RuntimeError("handler_started")

    def handler_finished(self, request_id: str, items: int, error: Any) -> None:
        raise RuntimeError("handler_finished")

    def close(self) -> None:
        raise RuntimeError("close")


async def test_an_observer_that_fails_harms_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def with_observer(*args: Any, **options: Any) -> Plugins:
        return dataclasses.replace(load_plugins(*args, **options), observers=lambda _: (Failing(),))

    monkeypatch.setattr(runtime_module, "load_plugins", with_observer)
    async with reqplane.connect(ENV) as runtime:
        serving = asyncio.ensure_future(runtime.endpoint("ns.comp.ep").serve_endpoint(echo))
        client = await runtime.endpoint("ns.comp.ep").client()
        await client.wait_for_instances(timeout=5)
        for _ in range(2):
            assert [item async for item in client.generate("hello")] == ["hello"]
        runtime.shutdown()
        await serving
    complaints = [one.getMessage() for one in caplog.records if "observer" in one.getMessage()]
    methods = ["call_finished", "call_started", "close", "handler_finished", "handler_started"]
    assert sorted(complaints) == [f"the observer Failing failed in {name}" for name in methods]


class Noting(Observer):
    def __init__(self) -> None:
        self.told: list[str] = []

    def call_finished(self, request_id: str, items: int, error: Any) -> None:
        self.told.append("call_finished")

    def close(self) -> None:
        self.told.append("close")


async def test_an_observer_is_closed_by_the_runtime_that_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is called after that; one that the program made is the program's."""
    made, given = Noting(), Noting()

    def with_observer(*args: Any, **options: Any) -> Plugins:
        return dataclasses.replace(load_plugins(*args, **options), observers=lambda _: (made,))

    monkeypatch.setattr(runtime_module, "load_plugins", with_observer)
    async with reqplane.connect(ENV, observers=[given]) as runtime:
        serving = asyncio.ensure_future(runtime.endpoint("ns.comp.ep").serve_endpoint(echo))
        client = await runtime.endpoint("ns.comp.ep").client()
        await client.wait_for_instances(timeout=5)
        assert [item async for item in client.generate("hello")] == ["hello"]
        stream = await client.generate("hello")
        assert made.told == ["call_finished"]
    await serving
    await stream.aclose()
    assert made.told == ["call_finished", "close"]
    assert given.told == ["call_finished", "call_finished"]


@pytest.mark.parametrize("mode", ["random", reqplane.RouterMode.RoundRobin])
async def test_several_endpoints_and_codecs_in_one_runtime(mode: str) -> None:
    async with reqplane.connect({**ENV, "DYN_REQUEST_PLANE_CODEC": "json"}) as runtime:
        paths = ["ns.comp.a", "ns.comp.b"]
        servings = [asyncio.ensure_future(runtime.endpoint(path).serve_endpoint(echo)) for path in paths]
        for path in paths:
            client = await runtime.endpoint(path).client(router_mode=mode)
            await client.wait_for_instances(timeout=5)
            assert client.instances()[0].codec == "json"
            assert [item async for item in client.generate({"path": path})] == [{"path": path}]
        runtime.shutdown()
        await asyncio.gather(*servings)


async def test_clients_of_one_endpoint_share_what_they_know() -> None:
    async with reqplane.connect(ENV) as runtime:
        endpoint = runtime.endpoint("ns.comp.ep")
        first, second = await endpoint.client(), await endpoint.client()
        assert first is second
        other = await endpoint.client("random")
        assert other is not first
        assert other.table is first.table


async def test_leaving_the_runtime_drains_what_it_serves() -> None:
    async with reqplane.connect(ENV) as frontend:
        async with reqplane.connect(ENV) as worker:

            async def slow(request: Any):
                await asyncio.sleep(0.2)
                yield request

            serving = asyncio.ensure_future(worker.endpoint("ns.comp.ep").serve_endpoint(slow))
            client = await frontend.endpoint("ns.comp.ep").client()
            await client.wait_for_instances(timeout=5)
            stream = await client.generate(1)
        assert serving.done()
        assert [item async for item in stream] == [1]


async def test_signals_mean_leave_and_are_given_back() -> None:
    async with reqplane.connect(ENV) as runtime:
        serving = asyncio.ensure_future(runtime.endpoint("ns.comp.ep").serve_endpoint(echo))
        client = await runtime.endpoint("ns.comp.ep").client()
        await client.wait_for_instances(timeout=5)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 5)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_the_applications_own_signal_handler_is_back_afterwards() -> None:
    def own(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, own)
    try:
        async with reqplane.connect(ENV) as runtime:
            serving = asyncio.ensure_future(runtime.endpoint("ns.comp.ep").serve_endpoint(echo))
            client = await runtime.endpoint("ns.comp.ep").client()
            await client.wait_for_instances(timeout=5)
            assert signal.getsignal(signal.SIGTERM) is not own
            runtime.shutdown()
            await serving
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_signals_can_be_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with reqplane.connect(ENV, signals=False) as runtime:
        serving = asyncio.ensure_future(runtime.endpoint("ns.comp.ep").serve_endpoint(echo))
        client = await runtime.endpoint("ns.comp.ep").client()
        await client.wait_for_instances(timeout=5)
        assert signal.getsignal(signal.SIGTERM) is before
        runtime.shutdown()
        await serving


BAD_PATHS = [
    *("", "ns.comp", "a.b.c.d", "a..c", "../x.b.c", "a.b.c/d", "a.b%2fc.d", "ns.comp.é", "*.b.c", "a.b.>"),
    *("a.b.c\0", "a.b.c\n", " a.b.c", "-a.b.c", "http://a/b.c.d", "dyn://dyn://a.b.c", f"a.b.{'c' * 129}"),
]


@pytest.mark.parametrize("path", BAD_PATHS)
async def test_a_bad_path_says_what_is_wanted(path: str) -> None:
    async with reqplane.connect(ENV) as runtime:
        with pytest.raises(ValueError, match="endpoint path"):
            runtime.endpoint(path)


async def test_what_cannot_be_served_is_a_type_error_at_once() -> None:
    async with reqplane.connect(ENV) as runtime:
        with pytest.raises(TypeError, match="can't be served"):
            await runtime.endpoint("ns.comp.ep").serve_endpoint(lambda request: request)  # type: ignore[arg-type]


async def test_every_bad_setting_is_told_at_once() -> None:
    bad = {
        "DYN_MAX_FRAME_BYTES": "many",
        "DYN_HTTP_RPC_PORT": "99999",
        "DYN_TCP_RESPONSE_STREAM_HOST": "http://x",
        "DYN_STREAM_WINDOW_BYTES": "-1",
    }
    with pytest.raises(SettingsError) as caught:
        async with reqplane.connect(ENV | bad):
            pass
    assert {variable for variable, _, _ in caught.value.problems} == set(bad)
    assert all(value in str(caught.value) for value in bad.values())


async def test_names_that_are_not_there_and_bad_settings_are_told_together() -> None:
    bad = {
        "DYN_REQUEST_PLANE": "htp",
        "DYN_DISCOVERY_BACKEND": "fil",
        "DYN_ROUTER_MODE": "rr",
        "DYN_MAX_FRAME_BYTES": "x",
        "DYN_TCP_RESPONSE_STREAM_PORT": "80x",
    }
    with pytest.raises(SettingsError) as caught:
        async with reqplane.connect(ENV | bad):
            pass
    assert {variable for variable, _, _ in caught.value.problems} == set(bad)
    assert "did you mean 'http'" in str(caught.value)
    assert "did you mean 'file'" in str(caught.value)


async def test_numbers_will_do_as_values() -> None:
    async with reqplane.connect({**ENV, "DYN_HTTP_RPC_PORT": 0}):  # type: ignore[dict-item]
        pass


async def test_the_log_level_is_read_at_each_connect() -> None:
    log = logging.getLogger("reqplane")
    for level in ("debug", "error", "info"):
        async with reqplane.connect({**ENV, "DYN_LOG": level}):
            assert log.level == getattr(logging, level.upper())
    log.setLevel(logging.CRITICAL)  # the application's own choice stays
    try:
        async with reqplane.connect({**ENV, "DYN_LOG": "debug"}):
            assert log.level == logging.CRITICAL
    finally:
        log.setLevel(logging.INFO)


async def test_the_defaults_name_both_remedies(monkeypatch) -> None:
    """Where only the core is installed."""
    for name in ("DYN_REQUEST_PLANE", "DYN_DISCOVERY_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(loading, "installed", tuple[EntryPoint, ...])
    monkeypatch.setattr("reqplane.discovery.etcd.stubs.installed", lambda: False)
    with pytest.raises(SettingsError) as caught:
        async with reqplane.connect():
            pass
    assert "pip install" in str(caught.value)
    assert "DYN_REQUEST_PLANE=http DYN_DISCOVERY_BACKEND=file" in str(caught.value)


async def test_a_plugin_that_fails_to_open_is_named(monkeypatch) -> None:
    async def fails(cls, host):
        raise RuntimeError("no luck")

    monkeypatch.setattr(MemoryDiscovery, "open", classmethod(fails))
    with pytest.raises(PluginBroken, match="no luck") as caught:
        async with reqplane.connect(ENV):
            pass
    assert (caught.value.stage, caught.value.distribution) == ("open", "reqplane")
    assert isinstance(caught.value.__cause__, RuntimeError)


async def test_a_busy_port_names_its_variable() -> None:
    async with reqplane.connect(ENV) as first:
        serving = asyncio.ensure_future(first.endpoint("ns.comp.ep").serve_endpoint(echo))
        client = await first.endpoint("ns.comp.ep").client()
        await client.wait_for_instances(timeout=5)
        port = client.instances()[0].transport["http_tcp"]["http_endpoint"].split("/")[2].split(":")[1]
        async with reqplane.connect({**ENV, "DYN_HTTP_RPC_PORT": port}, signals=False) as second:
            with pytest.raises(SettingsError, match="DYN_HTTP_RPC_PORT"):
                await second.endpoint("ns.comp.ep").serve_endpoint(echo)
        assert len(client.instances()) == 1  # the second one left nothing behind
        first.shutdown()
        await serving


async def test_a_runtime_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    async with reqplane.connect(ENV) as runtime:
        serving = asyncio.ensure_future(runtime.endpoint("ns.comp.ep").serve_endpoint(echo))
        client = await runtime.endpoint("ns.comp.ep").client()
        await client.wait_for_instances(timeout=5)
        async for _ in client.generate(1):
            break
    await serving
    assert asyncio.all_tasks() == before


# ── the host ──


async def test_who_waits_for_workers_is_told_when_the_runtime_closes(monkeypatch) -> None:
    async def lists_nothing(self: Any, endpoint: Any):
        await asyncio.Event().wait()
        yield []

    async with reqplane.connect(ENV) as runtime:
        client = await runtime.endpoint("ns.comp.ep").client()
        monkeypatch.setattr(MemoryDiscovery, "watch", lists_nothing)
        waiting = [
            asyncio.ensure_future(client.wait_for_instances()),
            asyncio.ensure_future(runtime.endpoint("ns.comp.other").client()),
        ]
        await asyncio.sleep(0)
    waiting += [
        asyncio.ensure_future(client.wait_for_instances()),
        asyncio.ensure_future(runtime.endpoint("ns.comp.another").client()),
    ]
    done, pending = await asyncio.wait(waiting, timeout=5)
    assert not pending
    for one in done:
        with pytest.raises(ReqplaneError, match="closed"):
            await one


async def test_a_wildcard_is_never_told_to_others(caplog, monkeypatch: pytest.MonkeyPatch) -> None:
    host = RuntimeHost({}, Limits())
    assert host.advertise("10.1.2.3") == "10.1.2.3"
    assert host.advertise("worker.example") == "worker.example"
    for wildcard in ("0.0.0.0", "::"):
        assert host.advertise(wildcard) not in ("0.0.0.0", "::")
    assert host.advertise("0.0.0.0", toward="127.0.0.1") == "127.0.0.1"
    assert host.advertise("0.0.0.0", toward="no-such-host.invalid") == "127.0.0.1"
    monkeypatch.setattr(host_module, "_route_to", lambda toward: "fd12::5" if ":" in toward else None)
    assert host.advertise("0.0.0.0") == "127.0.0.1"
    assert host.advertise("::") == "fd12::5"
    assert "no route" in caplog.text
    await host.aclose()


async def test_a_task_that_fails_is_logged_and_one_that_runs_is_cancelled_at_the_close(caplog) -> None:
    host = RuntimeHost({}, Limits())

    async def fails() -> None:
        raise ValueError("lost")

    failing = host.spawn(fails(), "fails")
    waiting = host.spawn(asyncio.Event().wait(), "waits")
    await asyncio.wait([failing])
    await host.aclose()
    assert waiting.cancelled()
    assert "lost" in caplog.text


async def test_in_dynamos_profile_an_endpoint_is_served_once() -> None:
    async def handler(request: Any):
        yield request

    async with reqplane.connect({**ENV, "DYN_WIRE_PROFILE": "dynamo"}) as runtime:
        endpoint = runtime.endpoint("ns.comp.ep")
        serving = asyncio.ensure_future(endpoint.serve_endpoint(handler))
        client = await endpoint.client()
        assert await client.wait_for_instances(10) == [runtime.incarnation]
        with pytest.raises(ValueError, match=r"already serves ns\.comp\.ep: with DYN_WIRE_PROFILE=dynamo"):
            await endpoint.serve_endpoint(handler)
        assert [item async for item in client.direct(1, runtime.incarnation)] == [1]
        runtime.shutdown()
        await serving
