"""Dynamo's defaults, where they are not Reqplane's, and its variables, where they read otherwise."""

from __future__ import annotations

from reqplane.settings import environment

_LEVELS = {"trace": "debug", "warn": "warning", "critical": "error", "off": "error"}
"""Levels of Dynamo's that Reqplane calls otherwise, or does not have."""
_KNOWN = ("debug", "info", "warning", "error")


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
        "DYN_LOG": log_level(),
    }


def log_level() -> str:
    """Of DYN_LOG, which with Dynamo may have a level for each target, the one for all."""
    level = "info"
    for directive in environment().get("DYN_LOG", "").lower().split(","):
        word = directive.strip()
        word = _LEVELS.get(word, word)
        if word in _KNOWN:
            level = word
    return level


def system_port() -> str | None:
    """Where Dynamo would serve its status, if that is on."""
    port = environment().get("DYN_SYSTEM_PORT", "").strip()
    return None if port in ("", "-1") else port
