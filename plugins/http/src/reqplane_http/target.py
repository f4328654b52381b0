"""How to reach one worker: read from its record once, then handed to each send."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
from reqplane.settings import is_wildcard
from reqplane.sockets import host_and_port

from reqplane_http.blocks import target_block
from reqplane_http.lane import Lane

_MOST_BY_H2 = 64 * 1024
"""Bytes of a frame.  A MiB costs hypercorn, which takes both on one port, four times as much by HTTP/2."""


class Target:
    """A URL, taken apart, with the header block of its POSTs."""

    __slots__ = ("address", "block", "lane", "most_by_h2", "origin", "path", "url")

    def __init__(self, host: str, port: int, path: str, most_by_h2: int = 0) -> None:
        self.origin = (host, port)
        self.path = path
        self.address = host_and_port(host, port)
        self.block = target_block(self.address, path)
        self.url = httpx.URL(f"http://{self.address}{path}")
        self.most_by_h2 = most_by_h2
        """The largest frame that goes by HTTP/2; others go by HTTP/1.1."""
        self.lane: Lane | None = None
        """Where its frames gather; None: it takes one frame a POST."""

    def __repr__(self) -> str:
        return f"Target({'h2c' if self.most_by_h2 else 'http'}://{self.address}{self.path})"


def url_of(transport: Mapping[str, Any]) -> str | None:
    """The URL in a record's `transport`: the guide's form, or Dynamo's."""
    member: object = transport.get("http_tcp")
    url: object = None
    if isinstance(member, Mapping):
        url = cast(Mapping[str, object], member).get("http_endpoint")
    if url is None:
        url = transport.get("http")
    return url if isinstance(url, str) else None


def announces(transport: Mapping[str, Any], member: str, value: object) -> bool:
    """Whether the record has this beside its `http_endpoint`."""
    plane: object = transport.get("http_tcp")
    return isinstance(plane, Mapping) and cast(Mapping[str, object], plane).get(member) == value


def takes_batches(transport: Mapping[str, Any]) -> bool:
    """Whether the record announces that several frames may come in one POST."""
    return announces(transport, "batch", 1)


def takes_h2(transport: Mapping[str, Any]) -> bool:
    """Whether the record announces HTTP/2 without encryption, beside HTTP/1.1 on the same port."""
    return announces(transport, "h2c", True)


def parse_target(url: str, instead_of_wildcard: str, h2_too: bool = False) -> Target | None:
    """The target of an `http://host:port/path` or `h2c://…` URL; None if it is not one.

    `h2c://` is HTTP/2 by prior knowledge for every frame, `http://` HTTP/1.1, unless `h2_too`.
    """
    if not (url.isascii() and url.isprintable()) or " " in url:
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "h2c") or not host or not port or not parts.path.startswith("/"):
        return None
    if is_wildcard(host):
        host = "127.0.0.1" if is_wildcard(instead_of_wildcard) else instead_of_wildcard
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    most_by_h2 = sys.maxsize if parts.scheme == "h2c" else _MOST_BY_H2 if h2_too else 0
    try:
        return Target(host, port, path, most_by_h2)
    except httpx.InvalidURL:
        return None
