"""The questions that the core asks a plugin, each once, when a runtime is set up.

A plugin is a module (or any object) with some of these functions, marked by `@hookimpl`, that an entry
point names: a transport in the group `reqplane.transports`, under the name that DYN_REQUEST_PLANE will
use; anything else in `reqplane.extensions`.  Each hook answers with a list of classes; their methods are
described in `reqplane.interfaces`.  Which one is used is decided by name, from the settings, so the
order of plugins never matters.

A whole plugin:

    from reqplane import hookimpl
    from yours.transport import YourTransport

    @hookimpl
    def reqplane_request_transports():
        return [YourTransport]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from reqplane.interfaces import (
    Discovery,
    Observer,
    PayloadCodec,
    RequestTransport,
    ResponseTransport,
    RouterPolicy,
)

PROJECT = "reqplane"
TRANSPORTS_GROUP = "reqplane.transports"
EXTENSIONS_GROUP = "reqplane.extensions"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def reqplane_request_transports() -> Sequence[type[RequestTransport[Any]]]:  # type: ignore[empty-body]
    """The planes that carry requests."""


@hookspec
def reqplane_response_transports() -> Sequence[type[ResponseTransport]]:  # type: ignore[empty-body]
    """The planes that carry answers."""


@hookspec
def reqplane_discovery_backends() -> Sequence[type[Discovery]]:  # type: ignore[empty-body]
    """Where workers register: the values of DYN_DISCOVERY_BACKEND."""


@hookspec
def reqplane_payload_codecs() -> Sequence[type[PayloadCodec]]:  # type: ignore[empty-body]
    """How payloads become bytes: the values of DYN_REQUEST_PLANE_CODEC."""


@hookspec
def reqplane_router_policies() -> Sequence[type[RouterPolicy]]:  # type: ignore[empty-body]
    """How workers are picked: the values of DYN_ROUTER_MODE."""


@hookspec
def reqplane_observers(settings: Mapping[str, str]) -> Sequence[Observer]:  # type: ignore[empty-body]
    """Objects that look on, made from the runtime's variables."""
