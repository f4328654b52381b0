"""What the entry point names."""

from __future__ import annotations

from reqplane import hookimpl

from outside.codec import ZippedJson
from outside.discovery import SqliteDiscovery
from outside.policy import Newest


@hookimpl
def reqplane_payload_codecs():
    return [ZippedJson]


@hookimpl
def reqplane_router_policies():
    return [Newest]


@hookimpl
def reqplane_discovery_backends():
    return [SqliteDiscovery]
