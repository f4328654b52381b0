"""A name that is served or called.

What Dynamo's bindings return is a Future, which runs whether it is awaited or not, and which `asyncio.wait`
takes: so it is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

from reqplane.dynamo.client import Client
from reqplane.dynamo.handlers import Served, adapt
from reqplane.dynamo.opening import Opening
from reqplane.dynamo.router_mode import RouterMode
from reqplane.dynamo.unsupported import not_supported
from reqplane.model import EndpointId


class Endpoint:
    """Made by `DistributedRuntime.endpoint`."""

    def __init__(self, opening: Opening, path: EndpointId) -> None:
        self._opening = opening
        self._path = path

    def serve_endpoint(
        self,
        generator: Callable[..., Any],
        graceful_shutdown: bool = True,
        metrics_labels: list[tuple[str, str]] | None = None,
        health_check_payload: dict[str, Any] | None = None,
    ) -> asyncio.Future[None]:
        """Serve it with the handler until the runtime is shut down.

        Requests that run by then are waited for, whatever `graceful_shutdown` says: so does Dynamo 1.6.1.
        `metrics_labels` and `health_check_payload` are for Dynamo's status server, which is off unless
        DYN_SYSTEM_PORT is set, and without it they have no effect there either.
        """
        _check_labels(metrics_labels)
        if health_check_payload is not None and not isinstance(health_check_payload, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"health_check_payload is {health_check_payload!r:.60}, wanted a dict or None")
        return asyncio.ensure_future(self._serve(adapt(generator), streamed=False))

    async def _serve(self, handler: Served, streamed: bool) -> None:
        if self._opening.leaves:  # a signal that comes while a program starts is no error
            return
        runtime = await self._opening.runtime()
        await runtime.serve(self._path, handler, hands_off=True, streamed=streamed)

    def serve_bidirectional_endpoint(
        self,
        generator: Callable[..., Any],
        graceful_shutdown: bool = True,
        metrics_labels: list[tuple[str, str]] | None = None,
    ) -> asyncio.Future[None]:
        """The same for requests that are streams: the handler gets a PyAsyncRequestStream."""
        _check_labels(metrics_labels)
        return asyncio.ensure_future(self._serve(adapt(generator, streamed=True), streamed=True))

    def client(self, router_mode: RouterMode | None = None) -> asyncio.Future[Client]:
        """A client, which chooses workers by turns unless `router_mode` says otherwise."""
        if router_mode is not None and not isinstance(router_mode, RouterMode):  # pyright: ignore[reportUnnecessaryIsInstance]
            name = type(router_mode).__name__
            raise TypeError(f"argument 'router_mode': '{name}' object cannot be converted to 'RouterMode'")
        mode = RouterMode.RoundRobin if router_mode is None else router_mode
        return asyncio.ensure_future(self._client(mode.policy))

    async def _client(self, policy: str) -> Client:
        runtime = await self._opening.runtime()
        return Client(await runtime.client(self._path, policy), self._opening.spawn)

    def connection_id(self) -> int:
        """This worker's id.  NotImplementedError with another wire profile than Dynamo's."""
        if not self._opening.dynamo:
            not_supported("connection_id()", "unset DYN_WIRE_PROFILE, or set it to 'dynamo'")
        return self._opening.number

    @property
    def metrics(self) -> NoReturn:
        not_supported(
            "Endpoint.metrics", "use a registry of prometheus_client's own, or an observer of Reqplane's"
        )

    def first_token_source(self, worker_type: Any) -> NoReturn:
        not_supported("first_token_source()", "it belongs to Dynamo's own language models")

    def register_endpoint_instance(self) -> NoReturn:
        not_supported("register_endpoint_instance()", "call serve_endpoint() again")

    def unregister_endpoint_instance(self) -> NoReturn:
        not_supported("unregister_endpoint_instance()", "end serve_endpoint() by runtime.shutdown()")


def _check_labels(labels: Any) -> None:
    if labels is None:
        return
    pairs: list[Any] = list(labels)
    if any(len(pair) != 2 or not all(isinstance(text, str) for text in pair) for pair in pairs):
        raise TypeError(f"metrics_labels are {labels!r:.60}, wanted pairs of texts")
