"""How DYN_STATIC_INSTANCES is written: `PATH=URL`, by comma."""

from __future__ import annotations

from typing import TypeAlias
from urllib.parse import urlsplit

from reqplane.model import EndpointId
from reqplane.settings import reachable_host, setting, settings_class

EXAMPLE = "default.backend.generate=http://balancer:8081"

Entry: TypeAlias = tuple[EndpointId, str]
"""An endpoint and the whole URL, port and path included, by which one of its workers is reached."""

_DEFAULT_PORTS = {"http": 80, "h2c": 80}


def entries(raw: str) -> tuple[Entry, ...]:
    """The list; ValueError tells of every entry that is wrong, by its number."""
    if "@" in raw:
        raise ValueError("wanted URLs without user name and password: they would be seen in logs")
    found: list[Entry] = []
    complaints: list[str] = []
    for number, text in enumerate(part for part in map(str.strip, raw.split(",")) if part):
        try:
            found.append(_new_entry(text, found))
        except ValueError as error:
            complaints.append(f"number {number}, {text!r:.200}: {error}")
    if complaints or not found:
        raise ValueError("; ".join([f"wanted PATH=URL, by comma, such as {EXAMPLE}", *complaints]))
    return tuple(found)


def _new_entry(text: str, others: list[Entry]) -> Entry:
    path, equals, url = text.partition("=")
    if not equals:
        raise ValueError("there is no '=' between path and URL")
    endpoint = EndpointId.parse(path.strip())
    entry = endpoint, _whole_url(url.strip(), endpoint)
    if entry in others:
        raise ValueError("it stands there twice")
    return entry


def _whole_url(url: str, endpoint: EndpointId) -> str:
    """The URL with its port, and with the guide's path where it has none of its own."""
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError("a URL has only visible ASCII characters")
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("wanted a URL http://host:port/path, or h2c://… for HTTP/2 without encryption")
    host = reachable_host(parts.hostname)
    port = _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    if port == 0:
        raise ValueError("wanted a port from 1 to 65535")
    if parts.fragment:
        raise ValueError("a worker's URL has no '#'")
    path = _guide_path(endpoint) if parts.path in ("", "/") else parts.path
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}{query}"


def _guide_path(endpoint: EndpointId) -> str:
    """Where a worker serves the endpoint unless its DYN_HTTP_RPC_ROOT_PATH says otherwise.

    No instance stands in it: whichever worker a balancer chooses takes it for its own.
    """
    return (
        f"/v1/dynamo/namespace.{endpoint.namespace}.component.{endpoint.component}.endpoint.{endpoint.name}"
    )


@settings_class
class StaticSettings:
    """What the static discovery backend reads."""

    instances: tuple[Entry, ...] = setting("DYN_STATIC_INSTANCES", default=(), parse=entries)
