"""How commands run what they have to run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import reqplane
from reqplane.errors import ReqplaneError
from reqplane.plugins import RESPONSE_PLANE, load_plugins
from reqplane.settings import Settings, collect, environment

T = TypeVar("T")


class CannotGoOn(Exception):
    """A command can't do what it is for; exit status 1."""


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end: on uvloop where that is installed, which is faster."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def chosen_or_local() -> dict[str, str]:
    """Variables for a system that a command starts: what is set stays, what is not stays on this machine."""
    env = environment()
    chosen: dict[str, str] = {}
    if not env.get("DYN_REQUEST_PLANE") and not env.get("DYN_DISCOVERY_BACKEND"):
        chosen = {"DYN_REQUEST_PLANE": "http", "DYN_DISCOVERY_BACKEND": "file"}
        print(
            "Neither DYN_REQUEST_PLANE nor DYN_DISCOVERY_BACKEND is set: using http and file.",
            file=sys.stderr,
        )
    for variables in _loopbacks(env | chosen):
        chosen |= {name: value for name, value in variables.items() if not env.get(name)}
    return chosen


def _loopbacks(env: Mapping[str, str]) -> list[Mapping[str, str]]:
    """What keeps the chosen transports on this machine, on free ports, so that any number fit beside each
    other."""
    (settings,), _ = collect([Settings], env)
    try:
        plugins = load_plugins(settings, env)
    except ReqplaneError:
        return []  # `connect` says what is wrong
    planes = [plugins.request_transports[name].loopback for name in settings.planes]
    return [*planes, plugins.response_transports[RESPONSE_PLANE].loopback]


def leave_at_eof(runtime: reqplane.DistributedRuntime) -> None:
    """Whoever started us holds the other end of standard input; it closes when they go, however they go."""
    loop = asyncio.get_running_loop()

    def at_eof() -> None:
        loop.remove_reader(sys.stdin)  # an end stays readable for ever
        runtime.shutdown()

    loop.add_reader(sys.stdin, at_eof)
