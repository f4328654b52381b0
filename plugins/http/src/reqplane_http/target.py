"""How to reach one worker: read from its record once, then handed to each send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from reqplane.settings import is_wildcard
from reqplane.sockets import host_and_port

from reqplane_http.blocks import target_block
from reqplane_http.lane import Lane


class Target:
    """A URL, taken apart, with the header block of its POSTs."""

    __slots__ = ("address", "block", "lane", "origin", "path")

    def __init__(self, host: str, port: int, path: str) -> None:
        self.origin = (host, port)
        self.path = path
        self.address = host_and_port(host, port)
        self.block = target_block(self.address, path)
        self.lane: Lane | None = None
        """Where its frames gather; None: it takes one frame a POST."""

    def __repr__(self) -> str:
        return f"Target(http://{self.address}{self.path})"


def url_of(transport: Mapping[str, Any]) -> str | None:
    """The URL in a record's `transport`: the guide's form, or Dynamo's."""
    member: object = transport.get("http_tcp")
    url: object = None
    if isinstance(member, Mapping):
        url = cast(Mapping[str, object], member).get("http_endpoint")
    if url is None:
        url = transport.get("http")
    return url if isinstance(url, str) else None


def takes_batches(transport: Mapping[str, Any]) -> bool:
    """Whether the record announces that several frames may come in one POST."""
    member: object = transport.get("http_tcp")
    return isinstance(member, Mapping) and cast(Mapping[str, object], member).get("batch") == 1


def parse_target(url: str, instead_of_wildcard: str) -> Target | None:
    """The target of an `http://host:port/path` URL; None if it is not one."""
    if not (url.isascii() and url.isprintable()) or " " in url:
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme != "http" or not host or not port or not parts.path.startswith("/"):
        return None
    if is_wildcard(host):
        host = "127.0.0.1" if is_wildcard(instead_of_wildcard) else instead_of_wildcard
    return Target(host, port, f"{parts.path}?{parts.query}" if parts.query else parts.path)
