"""The core's own plugin: what it brings along goes through the same hooks as everybody's."""

from __future__ import annotations

from reqplane.balancing import LeastLoaded, PowerOfTwo
from reqplane.codecs import JsonCodec, MsgpackCodec
from reqplane.hookspecs import hookimpl
from reqplane.interfaces import Discovery, PayloadCodec, RouterPolicy
from reqplane.routing import Direct, Random, RoundRobin


@hookimpl
def reqplane_payload_codecs() -> list[type[PayloadCodec]]:
    return [MsgpackCodec, JsonCodec]


@hookimpl
def reqplane_router_policies() -> list[type[RouterPolicy]]:
    return [RoundRobin, Random, LeastLoaded, PowerOfTwo, Direct]


@hookimpl
def reqplane_discovery_backends() -> list[type[Discovery]]:
    from reqplane.discovery.etcd.stubs import installed
    from reqplane.discovery.file import FileDiscovery
    from reqplane.discovery.memory import MemoryDiscovery
    from reqplane.discovery.static import StaticDiscovery

    backends: list[type[Discovery]] = [FileDiscovery, MemoryDiscovery, StaticDiscovery]
    if installed():
        from reqplane.discovery.etcd.backend import EtcdDiscovery

        backends.append(EtcdDiscovery)
    return backends
