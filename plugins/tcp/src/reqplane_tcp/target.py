"""How to reach one worker: read from its record once, then handed to each send."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reqplane.model import EndpointId
from reqplane.settings import host as host_of
from reqplane.settings import is_wildcard
from reqplane.sockets import host_and_port, split_address

from reqplane_tcp.cutter import MOST_PATH

_PATH = re.compile(r"[!-~]+")
_WITH_ID = re.compile(r"[0-9a-f]{1,16}/.+")


def path_of(endpoint: EndpointId, incarnation: int) -> str:
    """Where a worker takes requests for an endpoint: Dynamo's form, with the incarnation for its id."""
    return f"{incarnation:x}/{endpoint.namespace}/{endpoint.component}/{endpoint.name}"


def parse(transport: Mapping[str, Any], instead_of_wildcard: str) -> tuple[str, str] | None:
    """The address (host:port) and the path in a record's `transport`, if a worker may have them."""
    member: object = transport.get("tcp")
    if not isinstance(member, str):
        return None
    address, slash, path = member.partition("/")
    if not slash or len(path) > MOST_PATH or not _PATH.fullmatch(path):
        return None
    try:
        host, port = split_address(address)
        host = host_of(host)
    except ValueError:
        return None
    if is_wildcard(host):
        host = "127.0.0.1" if is_wildcard(instead_of_wildcard) else instead_of_wildcard
    return host_and_port(host, port), path


def takes_headers(path: str) -> bool:
    """Whether the worker of this path takes requests with headers.

    Those of Dynamo that do have their id in the path (0.9.1 and 1.6.1: `ID/generate` and
    `ID/default/backend/generate`), and 0.7.1, which does not, has none (`generate`).  All three were tried.
    """
    return _WITH_ID.fullmatch(path) is not None
