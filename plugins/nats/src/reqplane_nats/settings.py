"""The variables of the nats plane."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from reqplane.settings import seconds, setting, settings_class, text
from reqplane.sockets import host_and_port

_DEFAULT_PORT = 4222
_SCHEMES = ("nats", "tls")
_WANTED = "wanted URLs such as nats://host:4222, separated by commas"


@dataclass(frozen=True, slots=True)
class Server:
    """Where a NATS server is, and who to be there if its URL says so."""

    host: str
    port: int
    tls: bool = False
    user: str | None = None
    password: str | None = None
    token: str | None = None

    @property
    def address(self) -> str:
        """host:port, without secrets."""
        return host_and_port(self.host, self.port)

    @property
    def url(self) -> str:
        """Its URL, without secrets."""
        return f"{'tls' if self.tls else 'nats'}://{self.address}"

    @property
    def has_login(self) -> bool:
        return self.user is not None or self.token is not None


def server(url: str) -> Server:
    """One URL, or host:port, or a host; ValueError if it is none of them."""
    whole = url if "://" in url else f"nats://{url}"
    scheme, _, rest = whole.partition("://")
    if scheme not in _SCHEMES:
        raise ValueError(f"wanted {' or '.join(f'{one}://' for one in _SCHEMES)} in front of host:port")
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(_WANTED) from None
    if not re.fullmatch(r"[a-z0-9._:%-]+", host) or parts.path.strip("/") or parts.query or port == 0:
        raise ValueError(_WANTED)
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    if user is not None and password is None:  # NATS reads a name alone as a token
        return Server(host, port or _DEFAULT_PORT, scheme == "tls", token=user)
    return Server(host, port or _DEFAULT_PORT, scheme == "tls", user, password)


def servers(raw: str) -> tuple[Server, ...]:
    """A comma list of URLs."""
    found = tuple(server(one.strip()) for one in raw.split(",") if one.strip())
    if not found:
        raise ValueError(_WANTED)
    return found


@settings_class
class NatsSettings:
    """What the nats plane reads."""

    servers: tuple[Server, ...] = setting(
        "NATS_SERVER", default=(Server("localhost", _DEFAULT_PORT),), parse=servers
    )
    username: str = setting("NATS_AUTH_USERNAME", default="", parse=text)
    password: str = setting("NATS_AUTH_PASSWORD", default="", parse=text, secret=True)
    token: str = setting("NATS_AUTH_TOKEN", default="", parse=text, secret=True)
    nkey: str = setting("NATS_AUTH_NKEY", default="", parse=text, secret=True)
    credentials_file: str = setting("NATS_AUTH_CREDENTIALS_FILE", default="", parse=text)
    ca_cert: str = setting("NATS_TLS_CA_CERT_PATH", default="", parse=text)
    client_cert: str = setting("NATS_TLS_CLIENT_CERT_PATH", default="", parse=text)
    client_key: str = setting("NATS_TLS_CLIENT_KEY_PATH", default="", parse=text)
    request_timeout: float = setting("DYN_NATS_REQUEST_TIMEOUT_SECS", default=5.0, parse=seconds)
