"""Who this process is to the NATS server, and how its connections are encrypted: checked at the start."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import nkeys  # pyright: ignore[reportMissingTypeStubs]
from reqplane.errors import SettingsError
from reqplane.settings import Problem

from reqplane_nats.reason import words
from reqplane_nats.settings import NatsSettings, Server

_HIDDEN = "***"
WAYS = (
    "NATS_AUTH_USERNAME and NATS_AUTH_PASSWORD, NATS_AUTH_TOKEN, NATS_AUTH_NKEY or NATS_AUTH_CREDENTIALS_FILE"
)

TLS_WAYS = "NATS_TLS_CA_CERT_PATH, NATS_TLS_CLIENT_CERT_PATH and NATS_TLS_CLIENT_KEY_PATH"


@dataclass(frozen=True, slots=True)
class Login:
    """What nats-py is told beside the server's URL."""

    options: Mapping[str, Any]
    tls: ssl.SSLContext | None
    """None: only if a server asks for it, and then with the system's certificates."""

    def for_server(self, server: Server) -> dict[str, Any]:
        """The options for one server: what stands in its URL comes first."""
        if server.token is not None:
            return {"token": server.token}
        if server.user is not None:
            return {"user": server.user, "password": server.password}
        return dict(self.options)


def prepare(settings: NatsSettings) -> Login:
    """Read the files and see that everything fits together; SettingsError has all that is wrong."""
    problems: list[Problem] = []
    options = _options(settings, problems)
    context = _context(settings, problems)
    if problems:
        raise SettingsError(problems)
    return Login(options, context)


def _options(settings: NatsSettings, problems: list[Problem]) -> dict[str, Any]:
    user, password = settings.username, settings.password
    if user and not password:
        problems.append(("NATS_AUTH_USERNAME", user, "wanted NATS_AUTH_PASSWORD with it"))
    if password and not user:
        problems.append(("NATS_AUTH_PASSWORD", _HIDDEN, "wanted NATS_AUTH_USERNAME with it"))
    given = {
        "NATS_AUTH_USERNAME": user or password,
        "NATS_AUTH_TOKEN": settings.token,
        "NATS_AUTH_NKEY": settings.nkey,
        "NATS_AUTH_CREDENTIALS_FILE": settings.credentials_file,
    }
    several = [name for name, value in given.items() if value]
    if len(several) > 1:
        problems.append(
            (several[0], _HIDDEN, f"there is {' and '.join(several[1:])} too: wanted one of them")
        )
    if several and any(server.has_login for server in settings.servers):
        urls = ",".join(server.url for server in settings.servers)
        problems.append(
            ("NATS_SERVER", urls, f"a login stands in it and in {several[0]}: wanted one of them")
        )
    if user:
        return {"user": user, "password": password}
    if settings.token:
        return {"token": settings.token}
    if settings.nkey:
        _check_seed(settings.nkey.encode(), "NATS_AUTH_NKEY", _HIDDEN, problems)
        return {"nkeys_seed_str": settings.nkey}
    if settings.credentials_file:
        _check_credentials(settings.credentials_file, problems)
        return {"user_credentials": settings.credentials_file}
    return {}


def _check_seed(seed: bytes, variable: str, value: str, problems: list[Problem]) -> None:
    try:
        cast(Any, nkeys).from_seed(bytearray(seed)).wipe()
    except Exception:  # whatever its decoder raises; its words may hold the seed
        problems.append((variable, value, "wanted the seed of a user's nkey, which starts with SU"))


def _check_credentials(path: str, problems: list[Problem]) -> None:
    try:
        lines = [line.strip() for line in Path(path).read_text().splitlines()]
    except (OSError, ValueError) as error:
        problems.append(("NATS_AUTH_CREDENTIALS_FILE", path, f"it can't be read: {words(error)}"))
        return
    parts: dict[str, str] = {}
    for title, following in itertools.pairwise(lines):
        for part in ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED"):
            if part in title:
                parts[part] = following
    if len(parts) < 2:
        wanted = "wanted a credentials file with a user's JWT and nkey seed, as nsc writes them"
        problems.append(("NATS_AUTH_CREDENTIALS_FILE", path, wanted))
    else:
        seed = parts["BEGIN USER NKEY SEED"].encode()
        _check_seed(seed, "NATS_AUTH_CREDENTIALS_FILE", path, problems)


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────


def _context(settings: NatsSettings, problems: list[Problem]) -> ssl.SSLContext | None:
    cert, key = settings.client_cert, settings.client_key
    if cert and not key:
        problems.append(("NATS_TLS_CLIENT_CERT_PATH", cert, "wanted NATS_TLS_CLIENT_KEY_PATH with it"))
    if key and not cert:
        problems.append(("NATS_TLS_CLIENT_KEY_PATH", key, "wanted NATS_TLS_CLIENT_CERT_PATH with it"))
    wanted = settings.ca_cert or (cert and key) or any(server.tls for server in settings.servers)
    if not wanted:
        return None
    context = ssl.create_default_context()
    if settings.ca_cert:
        try:
            context = ssl.create_default_context(cafile=settings.ca_cert)
        except OSError as error:  # SSLError is one
            wrong = f"no certificates can be read from it: {words(error)}"
            problems.append(("NATS_TLS_CA_CERT_PATH", settings.ca_cert, wrong))
    if cert and key:
        try:
            # A password would be asked for on the terminal.
            context.load_cert_chain(cert, key, password=_no_password)
        except (OSError, ValueError) as error:
            wrong = f"it and NATS_TLS_CLIENT_KEY_PATH={key!r} can't be used: {words(error)}"
            problems.append(("NATS_TLS_CLIENT_CERT_PATH", cert, wrong))
    return context


def _no_password() -> str:
    raise ValueError("the key has a password, wanted one without")
