"""Settings: `DYN_` variables, read once into frozen dataclasses.

A settings class is a frozen dataclass whose fields are made by `setting(variable, default=…, parse=…)`;
`load` fills one or several from a mapping and complains about everything that is wrong at once.  Plugins
declare theirs the same way.  Nothing else in Reqplane reads the environment.
"""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, dataclass_transform

from reqplane.errors import SettingsError
from reqplane.escaping import HIDDEN, masked
from reqplane.model import Limits

T = TypeVar("T")

Problem: TypeAlias = tuple[str, str, str]
"""A variable, its value, and what is wrong with it."""


def setting(variable: str, *, default: T, parse: Callable[[str], T], secret: bool = False) -> Any:
    """A field that comes from `variable`.  `parse` raises ValueError with what is allowed."""
    return dataclasses.field(
        default=default, metadata={"variable": variable, "parse": parse, "secret": secret}
    )


@dataclass_transform(frozen_default=True, field_specifiers=(setting,))
def settings_class(cls: type[T]) -> type[T]:
    """A frozen, slotted dataclass of settings."""
    return dataclass(frozen=True, slots=True)(cls)


def load(cls: type[T], env: Mapping[str, str]) -> T:
    """One settings class filled from `env`; SettingsError lists every variable that is wrong."""
    return load_all([cls], env)[0]


def load_all(classes: Iterable[type[Any]], env: Mapping[str, str]) -> list[Any]:
    """Several at once, so that one error has everything that is wrong with all of them."""
    loaded, problems = collect(classes, env)
    if problems:
        raise SettingsError(problems)
    return loaded


def collect(classes: Iterable[type[Any]], env: Mapping[str, str]) -> tuple[list[Any], list[Problem]]:
    """Like `load_all`, but hands the problems out and puts the default where a value is wrong."""
    problems: list[Problem] = []
    loaded: list[Any] = []
    for cls in classes:
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            variable: str = field.metadata.get("variable", "")
            raw = env.get(variable, "").strip()
            if not raw:  # an empty variable counts as unset, as in a shell's ${X:-default}
                continue
            try:
                values[field.name] = field.metadata["parse"](raw)
            except ValueError as error:
                shown = HIDDEN if field.metadata["secret"] else masked(raw)
                why = str(error) if shown == raw else str(error).replace(raw, shown)
                problems.append((variable, shown, why))
        loaded.append(cls(**values))
    return loaded, problems


# ── how a value is written ──────────────────────────────────────────────────────────────────────────


def text(raw: str) -> str:
    return raw


def names(raw: str) -> tuple[str, ...]:
    """A comma list."""
    parts = tuple(part.strip() for part in raw.split(",") if part.strip())
    if not parts:
        raise ValueError("wanted one or more names, separated by commas")
    if len(set(parts)) != len(parts):
        raise ValueError("a name stands there twice")
    return parts


def name(raw: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", raw):
        raise ValueError("wanted a name of letters, digits, '_' and '-'")
    return raw


def port(raw: str) -> int:
    """0 = any free port."""
    if not (raw.isascii() and raw.isdigit()) or int(raw) > 65535:
        raise ValueError("wanted a port number from 0 (any free one) to 65535")
    return int(raw)


def seconds(raw: str) -> float:
    """A positive number of seconds."""
    try:
        value = float(raw)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise ValueError("wanted a number of seconds above 0")
    return value


def seconds_or_off(raw: str) -> float | None:
    """Seconds; "off" or 0 for none."""
    if raw.lower() in ("off", "0", "none"):
        return None
    try:
        return seconds(raw)
    except ValueError:
        raise ValueError("wanted a number of seconds above 0, or 'off'") from None


def at_least(smallest: int) -> Callable[[str], int]:
    """A whole number, not below `smallest`."""

    def parse(raw: str) -> int:
        if not (raw.isascii() and raw.isdigit()) or int(raw) < smallest:
            raise ValueError(f"wanted a whole number, at least {smallest}")
        return int(raw)

    return parse


def between(smallest: int, largest: int) -> Callable[[str], int]:
    """A whole number, not outside of these two."""

    def parse(raw: str) -> int:
        if not (raw.isascii() and raw.isdigit() and smallest <= int(raw) <= largest):
            raise ValueError(f"wanted a whole number from {smallest} to {largest}")
        return int(raw)

    return parse


def one_of(*allowed: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw not in allowed:
            raise ValueError(f"wanted one of {', '.join(allowed)}")
        return raw

    return parse


def host(raw: str) -> str:
    """A host name or address, without a port; [v6] in brackets or not."""
    bare = raw[1:-1] if raw.startswith("[") and raw.endswith("]") else raw
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", bare) or bare.count(":") == 1:
        raise ValueError("wanted a host name or an IP address, without scheme and port")
    return bare


def reachable_host(raw: str) -> str:
    """A host that others can connect to."""
    parsed = host(raw)
    if is_wildcard(parsed):
        raise ValueError("wanted an address that others can connect to, not a wildcard")
    return parsed


def reachable_address(raw: str) -> str:
    """The same, or host:port, where others reach it at a port of its own (see `sockets.told_address`)."""
    name, colon, number = raw.rpartition(":")
    if colon and (name.endswith("]") or ":" not in name):
        told = reachable_host(name)
        if port(number) == 0:
            raise ValueError("wanted a port from 1 to 65535 behind the host, or none")
        return f"[{told}]:{number}" if ":" in told else f"{told}:{number}"
    return reachable_host(raw)


_UNSPECIFIED = (bytes(16), bytes(10) + b"\xff\xff" + bytes(4))  # :: and ::ffff:0.0.0.0


def is_wildcard(host: str) -> bool:
    """Whether a host is "every address of this machine": fine to listen on, nothing to connect to."""
    with suppress(OSError):  # also "0", "0x0" and "0.0", which the system reads as 0.0.0.0
        return socket.inet_aton(host) == bytes(4)
    with suppress(OSError):
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0]) in _UNSPECIFIED
    return False


def root_path(raw: str) -> str:
    """A URL path that others are put under: starts with '/', does not end with one."""
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", raw):
        raise ValueError("wanted a path such as /v1/dynamo")
    return raw.rstrip("/")


# ── the core's own ──────────────────────────────────────────────────────────────────────────────────


_LEVELS = {"trace": "debug", "debug": "debug", "info": "info", "warn": "warning", "warning": "warning"}
_LEVELS["error"] = "error"


def log_level(raw: str) -> str:
    """A level.  Of what Dynamo takes too, `warn`, `trace` and levels of its own parts by comma, we take what
    is meant for all, `info` if nothing is."""
    general = [part.strip().lower() for part in raw.split(",") if "=" not in part] or ["info"]
    if len(general) != 1 or general[0] not in _LEVELS:
        raise ValueError("wanted one of debug, info, warning, error")
    return _LEVELS[general[0]]


@settings_class
class Settings:
    """What the core reads."""

    planes: tuple[str, ...] = setting("DYN_REQUEST_PLANE", default=("nats",), parse=names)
    discovery: str = setting("DYN_DISCOVERY_BACKEND", default="etcd", parse=name)
    router_mode: str = setting("DYN_ROUTER_MODE", default="round_robin", parse=name)
    codec: str = setting("DYN_REQUEST_PLANE_CODEC", default="msgpack", parse=name)
    wire_profile: Literal["guide", "dynamo"] = setting(
        "DYN_WIRE_PROFILE", default="guide", parse=one_of("guide", "dynamo")
    )
    disabled_extensions: tuple[str, ...] = setting("DYN_DISABLED_EXTENSIONS", default=(), parse=names)
    max_frame_bytes: int = setting("DYN_MAX_FRAME_BYTES", default=32 * 1024 * 1024, parse=at_least(4096))
    max_inflight_bytes: int = setting(
        "DYN_MAX_INFLIGHT_BYTES", default=512 * 1024 * 1024, parse=at_least(4096)
    )
    call_home_timeout: float = setting("DYN_CALL_HOME_TIMEOUT", default=5.0, parse=seconds)
    stream_idle_timeout: float | None = setting("DYN_STREAM_IDLE_TIMEOUT", default=None, parse=seconds_or_off)
    stream_window_bytes: int = setting(
        "DYN_STREAM_WINDOW_BYTES",
        default=262_144,
        parse=between(1024, 2**30),  # a CREDIT has 32 bits for it and an item
    )
    heartbeat_ms: int = setting("DYN_HEARTBEAT_MS", default=1000, parse=at_least(50))
    stream_dead_after: float = setting("DYN_STREAM_DEAD_AFTER", default=30.0, parse=seconds)
    drain_timeout: float = setting("DYN_WORKER_GRACEFUL_SHUTDOWN_TIMEOUT", default=30.0, parse=seconds)
    log_level: str = setting("DYN_LOG", default="info", parse=log_level)

    @property
    def dynamo(self) -> bool:
        """Whether workers register in the form that NVIDIA Dynamo reads (`interfaces.Host.dynamo`)."""
        return self.wire_profile == "dynamo"

    def limits(self) -> Limits:
        """The bounds that plugins keep."""
        return Limits(
            max_frame_bytes=self.max_frame_bytes,
            stream_window_bytes=self.stream_window_bytes,
            heartbeat=self.heartbeat_ms / 1000,
            stream_dead_after=self.stream_dead_after,
            call_home_timeout=self.call_home_timeout,
            drain_timeout=self.drain_timeout,
            max_inflight_bytes=self.max_inflight_bytes,
        )


@settings_class
class FileSettings:
    """What the file discovery backend reads."""

    folder: str = setting("DYN_FILE_KV", default="", parse=text)
    ttl: float = setting("DYN_FILE_TTL", default=10.0, parse=seconds)

    def path(self) -> str:
        """The folder; by default one of this user's own in the temp directory."""
        return self.folder or os.path.join(tempfile.gettempdir(), f"reqplane-{os.getuid()}")


def environment(overrides: Mapping[str, str] | None = None) -> dict[str, str]:
    """The process's variables, with `overrides` on top."""
    return {**os.environ, **{name: str(value) for name, value in (overrides or {}).items()}}
