"""Dynamo's defaults, where they are not Reqplane's, and its variables that Reqplane does not have."""

from __future__ import annotations

from reqplane.settings import environment, load, setting, settings_class


def default_planes() -> tuple[str, str]:
    """The discovery backend and the request plane of a program that does not say."""
    env = environment()
    return env.get("DYN_DISCOVERY_BACKEND") or "etcd", env.get("DYN_REQUEST_PLANE") or "tcp"


def overrides(discovery: str, plane: str) -> dict[str, str]:
    """What `connect` is told on top of the process's variables."""
    return {
        "DYN_DISCOVERY_BACKEND": discovery,
        "DYN_REQUEST_PLANE": plane,
        "DYN_WIRE_PROFILE": environment().get("DYN_WIRE_PROFILE") or "dynamo",
    }


def _port_or_off(raw: str) -> int:
    if raw != "-1" and not (raw.isascii() and raw.isdigit()):
        raise ValueError("wanted -1")
    return int(raw)


@settings_class
class DynamoSettings:
    """What only programs written for Dynamo read."""

    system_port: int = setting("DYN_SYSTEM_PORT", default=-1, parse=_port_or_off)
    """Where Dynamo serves a process's status; -1 = off."""


def system_port() -> int | None:
    """The port where Dynamo would serve this process's status, if it would."""
    port = load(DynamoSettings, environment()).system_port
    return None if port == -1 else port
