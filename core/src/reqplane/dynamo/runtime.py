"""A Dynamo program's runtime."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from reqplane.dynamo.endpoint import Endpoint
from reqplane.dynamo.environment import default_planes, overrides, system_port
from reqplane.dynamo.metadata import checked_text
from reqplane.dynamo.opening import Opening
from reqplane.dynamo.unsupported import not_supported
from reqplane.model import EndpointId
from reqplane.runtime import choose
from reqplane.settings import environment


class DistributedRuntime:
    """One process's part of the system.

    `discovery_backend` and `request_plane` are what DYN_DISCOVERY_BACKEND and DYN_REQUEST_PLANE may be.
    SettingsError or PluginError if they, or other settings, can't be used; whether servers can be reached
    only the first `client()` or `serve_endpoint()` finds out.
    """

    def __init__(
        self,
        event_loop: Any,
        discovery_backend: str,
        request_plane: str,
        enable_nats: bool | None = None,
        *,
        event_plane: str | None = None,
        response_plane: str | None = None,
    ) -> None:
        if event_plane is not None:
            not_supported(f"event_plane={event_plane!r}", "leave it out, there are no events here")
        if response_plane not in (None, "tcp"):
            not_supported(f"response_plane={response_plane!r}", "leave it out, or use 'tcp'")
        if (port := system_port()) is not None:
            not_supported(f"DYN_SYSTEM_PORT={port}", "unset it, no status server is run here")
        plane: Any = request_plane
        if isinstance(plane, bool):  # is_static, which stood here up to Dynamo 0.7
            plane = _found_by_discovery(plane)
        env = overrides(
            checked_text("discovery_backend", discovery_backend), checked_text("request_plane", plane)
        )
        choose(environment(env))
        self._event_loop = event_loop
        self._opening = Opening(env)
        _latest[:] = [self]

    @staticmethod
    def detached() -> DistributedRuntime:
        """The latest of this process; RuntimeError if there is none."""
        if not _latest:
            raise RuntimeError("this process has no DistributedRuntime yet")
        return _latest[0]

    def event_loop(self) -> Any:
        return self._event_loop

    def endpoint(self, path: str) -> Endpoint:
        """`namespace.component.endpoint`, with or without `dyn://`; ValueError if it is neither."""
        return Endpoint(self._opening, EndpointId.parse(checked_text("path", path)))

    def namespace(self, name: str) -> Namespace:
        """The first link of the chain that Dynamo had up to 0.9."""
        return Namespace(self, checked_text("name", name))

    def shutdown(self) -> None:
        """Let every `serve_endpoint` drain and return, then close everything."""
        self._opening.shutdown()

    async def closed(self) -> None:
        """The same, and wait for it; not Dynamo's."""
        await self._opening.closed()

    def set_health_status(self, ready: bool) -> NoReturn:
        not_supported("set_health_status()", "there is no status server that would tell it")

    def register_engine_route(
        self, route_name: str, callback: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
    ) -> NoReturn:
        not_supported(
            "register_engine_route()", "serve an endpoint, which `reqplane frontend` has as HTTP too"
        )

    def system_status_server_url(self) -> str | None:
        """None: there is no status server."""
        return None

    def to_capsule(self) -> NoReturn:
        not_supported("to_capsule()", "it is for extensions that are written against Dynamo's Rust code")


_latest: list[DistributedRuntime] = []


def _found_by_discovery(is_static: bool) -> str:
    if is_static:
        not_supported("is_static=True", "with False, discovery finds the workers")
    return default_planes()[1]


class Namespace:
    """`runtime.namespace("x").component("y").endpoint("z")`."""

    def __init__(self, runtime: DistributedRuntime, name: str) -> None:
        self._runtime = runtime
        self._name = name

    def component(self, name: str) -> Component:
        return Component(self._runtime, f"{self._name}.{checked_text('name', name)}")


class Component:
    """The middle link of the chain."""

    def __init__(self, runtime: DistributedRuntime, path: str) -> None:
        self._runtime = runtime
        self._path = path

    async def create_service(self) -> None:
        """Nothing is to be done: serving an endpoint does all."""

    def endpoint(self, name: str) -> Endpoint:
        return self._runtime.endpoint(f"{self._path}.{checked_text('name', name)}")
