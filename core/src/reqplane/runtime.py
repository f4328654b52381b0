"""`connect()`: settings, then plugins, then opened objects.  The one place where they are put together."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from reqplane.client import Client
from reqplane.endpoint import Answering
from reqplane.errors import ReqplaneError
from reqplane.escaping import escape_log
from reqplane.guarded import GuardedObserver, guarded_codec, guarded_policy
from reqplane.handlers import adapt
from reqplane.host import RuntimeHost
from reqplane.instances import InstanceTable
from reqplane.interfaces import (
    Budget,
    Discovery,
    Observer,
    PayloadCodec,
    RequestTransport,
    ResponseTransport,
    RouterPolicy,
)
from reqplane.model import Change, EndpointId
from reqplane.plugins import RESPONSE_PLANE, Plugins, installed, installs, load_plugins
from reqplane.sending import Calling
from reqplane.serving import Bounds, Planes, Serving
from reqplane.settings import Settings, collect, environment
from reqplane.spelling import warn_of_misspelt
from reqplane.workload import Workload

log = logging.getLogger("reqplane")


class Endpoint:
    """A service's name, to be served or called.  Made by `DistributedRuntime.endpoint`."""

    def __init__(self, runtime: DistributedRuntime, endpoint: EndpointId) -> None:
        self._runtime = runtime
        self.id = endpoint

    async def serve_endpoint(
        self, handler: Callable[..., Any], *, max_concurrent: int | None = None, max_queued: int | None = None
    ) -> None:
        """Serve it with `handler` until SIGTERM, SIGINT or `runtime.shutdown()`; returns drained.

        `handler(request, context)` or `handler(request)`: an async generator, a coroutine (one item) or a
        generator (runs in a thread); anything else is a TypeError.  At most `max_concurrent` requests run
        at once, and at most `max_queued` wait for their turn, in the order of arrival; what is more is
        refused, and goes to another worker.  None = no bound.  TimeoutError: handlers still ran when the
        drain time was over.
        """
        await self._runtime.serve(self.id, handler, Bounds(max_concurrent, max_queued))

    async def serve_bidirectional_endpoint(
        self, handler: Callable[..., Any], *, max_concurrent: int | None = None, max_queued: int | None = None
    ) -> None:
        """As `serve_endpoint`, for requests that are streams themselves.

        `handler(request_stream, context)` or `handler(request_stream)`: an async generator or a coroutine
        (one item), which reads the caller's items by `async for item in request_stream`
        (reqplane.RequestStream), as they come or later.
        """
        bounds = Bounds(max_concurrent, max_queued)
        await self._runtime.serve(self.id, handler, bounds, streamed=True)

    async def client(self, router_mode: str | None = None) -> Client:
        """A client of this endpoint, which knows by then the workers that there are.

        DiscoveryUnavailable if they can't be asked for; it may be called again.
        `router_mode`: a policy's name; DYN_ROUTER_MODE if left out.
        """
        return await self._runtime.client(self.id, router_mode)

    def __str__(self) -> str:
        return str(self.id)


class DistributedRuntime:
    """One process's part of the system.  Made by `connect()`."""

    def __init__(
        self,
        host: RuntimeHost,
        settings: Settings,
        plugins: Plugins,
        discovery: Discovery,
        response: ResponseTransport,
        transports: Mapping[str, RequestTransport[Any]],
        signals: bool,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.settings = settings
        self.plugins = plugins
        self.incarnation = host.incarnation
        self._host = host
        self._discovery = discovery
        self._response = response
        self._transports = transports
        self._signals = signals
        self._codecs: dict[str, PayloadCodec] = {
            name: guarded_codec(plugins.make(cls, cls)) for name, cls in plugins.codecs.items()
        }
        self._observers = tuple(observers)
        self._answering = Answering(
            host.incarnation,
            response,
            self._codecs,
            host.timers,
            self._observers,
            Workload(host.limits, host.inflight, host.timers, response.report),
            settings.max_frame_bytes,
        )
        self._leaving = asyncio.Event()
        self._former: dict[signal.Signals, Any] = {}  # what signals did before they were taken
        self._serving: dict[asyncio.Future[None], EndpointId] = {}
        self._tables: dict[EndpointId, InstanceTable] = {}
        self._clients: dict[tuple[EndpointId, str], Client] = {}

    def endpoint(self, path: str) -> Endpoint:
        """`namespace.component.endpoint`, with or without `dyn://`; ValueError if it is neither."""
        return Endpoint(self, EndpointId.parse(path))

    def shutdown(self) -> None:
        """Let every `serve_endpoint` drain and return."""
        self._leaving.set()

    # ── serving ──

    async def serve(
        self,
        endpoint: EndpointId,
        handler: Callable[..., Any],
        bounds: Bounds | None = None,
        *,
        hands_off: bool = False,
        streamed: bool = False,
    ) -> None:
        """See `Endpoint.serve_endpoint`; with `streamed`, `Endpoint.serve_bidirectional_endpoint`.

        `hands_off`: a handler is told by its context alone when its caller stops or kills the call.  It is
        not cancelled, and for the caller the answer has ended by then.
        """
        if self._host.dynamo and endpoint in self._serving.values():
            raise ValueError(
                f"this process already serves {endpoint}: with DYN_WIRE_PROFILE=dynamo it can only once, "
                f"since a process has one number there"
            )
        planes = Planes(
            list(self._transports.values()),
            self._discovery,
            self.settings.codec,
            self.settings.drain_timeout,
            self._host.dynamo,
        )
        adapted = adapt(handler, streamed=streamed)
        serving = Serving(
            endpoint, adapted, planes, self._answering, bounds, hands_off=hands_off, streamed=streamed
        )
        done = asyncio.get_running_loop().create_future()
        self._serving[done] = endpoint
        try:
            await self._response.listen()  # a record tells the worker's own response address too
            self._take_signals()
            await serving.run(self._leaving)
        finally:
            del self._serving[done]
            done.set_result(None)

    def _take_signals(self) -> None:
        """SIGTERM and SIGINT mean: leave in order.  A second one has its usual effect."""
        if not self._signals:
            return
        loop = asyncio.get_running_loop()
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._former.setdefault(number, signal.getsignal(number))
                loop.add_signal_handler(number, self._signalled)
        except (NotImplementedError, RuntimeError, ValueError):  # not the main thread
            log.debug("signals are left alone: this is not the main thread")
            self._signals = False

    def _signalled(self) -> None:
        self._give_signals_back()
        self.shutdown()

    def _give_signals_back(self) -> None:
        loop = asyncio.get_running_loop()
        for number, handler in self._former.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
        self._former.clear()

    # ── calling ──

    @property
    def planes(self) -> tuple[str, ...]:
        """The request planes of this process, the preferred one first."""
        return tuple(self._transports)

    @property
    def place(self) -> str:
        """What messages call the place that workers are looked for in."""
        return self._discovery.place

    @property
    def inflight(self) -> Budget:
        """The bytes of unfinished requests that this process may hold (DYN_MAX_INFLIGHT_BYTES)."""
        return self._host.inflight

    def watch(self) -> AsyncIterator[list[Change]]:
        """Who comes and goes, of all endpoints (`interfaces.Discovery.watch`)."""
        return self._discovery.watch(None)

    async def client(self, endpoint: EndpointId, router_mode: str | None = None) -> Client:
        """See `Endpoint.client`."""
        if self._host.closed:
            raise ReqplaneError("this runtime is closed")
        mode = router_mode or self.settings.router_mode
        self.plugins.policy(mode)
        await self._response.listen()
        table = self._table(endpoint)
        await table.listed()
        client = self._clients.get((endpoint, mode))
        if client is None:
            wanted = {mode, "round_robin", "random"} & self.plugins.policies.keys()
            policies = {name: self._policy(name, endpoint) for name in wanted}
            for policy in policies.values():
                table.inform(policy)
            routed = functools.partial(self.client, endpoint)
            client = self._clients[endpoint, mode] = Client(self._calling(), table, mode, policies, routed)
        return client

    def _policy(self, name: str, endpoint: EndpointId) -> RouterPolicy:
        cls = self.plugins.policies[name]
        policy = self.plugins.make(cls, lambda: cls.create(endpoint, self._host))
        return guarded_policy(policy, lambda problem: self.plugins.broken(cls, "pick", problem))

    def _table(self, endpoint: EndpointId) -> InstanceTable:
        """The endpoint's table: one, however many clients ask."""
        table = self._tables.get(endpoint)
        if table is None:
            transports = list(self._transports.values())
            table = InstanceTable(endpoint, self._discovery, transports, self._codecs, self._host.timers)
            self._tables[endpoint] = table
            self._host.hand_reports_to(table.reported)
            following = self._host.spawn(table.follow(), f"follows {endpoint}")
            following.add_done_callback(lambda _: table.close())
        return table

    def _calling(self) -> Calling:
        return Calling(
            self._response,
            self._host.timers,
            self._observers,
            tuple(self._transports),
            self.settings.call_home_timeout,
            self.settings.stream_idle_timeout,
            self._host.spawn,
            installs(installed()),
        )

    async def aclose(self) -> None:
        """Leave: drain what is served and wait for it."""
        self.shutdown()
        if self._serving:
            await asyncio.wait(list(self._serving))
        self._give_signals_back()


@asynccontextmanager
async def connect(
    env: Mapping[str, str] | None = None,
    *,
    signals: bool = True,
    observers: Sequence[Observer] = (),
    incarnation: int | None = None,
) -> AsyncGenerator[DistributedRuntime]:
    """Set up a runtime from the `DYN_` variables, with `env` on top of the process's own.

    `signals=False` leaves SIGTERM and SIGINT alone.  `observers` look on beside those of plugins.
    `incarnation` is for who has to know the process's number before: below 2**63, and drawn at random.
    SettingsError and PluginError say what is wrong and what cures it; DiscoveryUnavailable, that workers
    can't be registered or found.
    """
    variables = environment(env)
    settings, plugins = choose(variables)
    _log_to_stderr(settings.log_level)
    escape_log(log)
    warn_of_misspelt(variables, [Settings, *plugins.settings_classes()])
    host = RuntimeHost(variables, settings.limits(), dynamo=settings.dynamo, incarnation=incarnation)
    async with AsyncExitStack() as stack:
        made = [GuardedObserver(observer) for observer in plugins.observers(variables)]
        for observer in made:
            stack.callback(observer.close)
        looking_on = [*made, *map(GuardedObserver, observers)]
        stack.push_async_callback(host.aclose)

        async def opened(cls: type[Any]) -> Any:
            plugin = await plugins.open(cls, host)
            stack.push_async_callback(plugin.aclose)
            return plugin

        discovery = await opened(plugins.discovery_backends[settings.discovery])
        response = await opened(plugins.response_transports[RESPONSE_PLANE])
        transports = {name: await opened(plugins.request_transports[name]) for name in settings.planes}
        runtime = DistributedRuntime(
            host, settings, plugins, discovery, response, transports, signals, looking_on
        )
        stack.push_async_callback(runtime.aclose)
        yield runtime


def choose(env: Mapping[str, str]) -> tuple[Settings, Plugins]:
    """The settings and the plugins that they name; one error has all that is wrong with any of them."""
    (settings,), problems = collect([Settings], env)
    return settings, load_plugins(settings, env, problems=problems)


class _UnlessConfigured(logging.StreamHandler[Any]):
    """Prints to stderr as long as the application has not set up logging itself."""

    given = logging.NOTSET
    """The level that DYN_LOG gave last."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not logging.getLogger().handlers and bool(super().filter(record))


def _log_to_stderr(level: str) -> None:
    """Without this a worker that nobody configured logging for would start, fail and leave in silence.

    A level that the application has set itself stays.
    """
    handler = next((one for one in log.handlers if isinstance(one, _UnlessConfigured)), None)
    if handler is None:
        handler = _UnlessConfigured(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
    if log.level in (logging.NOTSET, handler.given):
        log.setLevel(level.upper())
        handler.given = log.level
