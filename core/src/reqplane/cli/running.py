"""How commands run what they have to run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import reqplane
from reqplane.settings import environment

T = TypeVar("T")

_LOCAL = {
    "DYN_HTTP_RPC_HOST": "127.0.0.1",
    "DYN_HTTP_RPC_PORT": "0",
    "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
}
"""On this machine only, on free ports, so that any number of these fit beside each other."""


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
    chosen = {name: value for name, value in _LOCAL.items() if not env.get(name)}
    if not env.get("DYN_REQUEST_PLANE") and not env.get("DYN_DISCOVERY_BACKEND"):
        chosen |= {"DYN_REQUEST_PLANE": "http", "DYN_DISCOVERY_BACKEND": "file"}
        print(
            "Neither DYN_REQUEST_PLANE nor DYN_DISCOVERY_BACKEND is set: using http and file.",
            file=sys.stderr,
        )
    return chosen


def leave_at_eof(runtime: reqplane.DistributedRuntime) -> None:
    """Whoever started us holds the other end of standard input; it closes when they go, however they go."""
    loop = asyncio.get_running_loop()

    def at_eof() -> None:
        loop.remove_reader(sys.stdin)  # an end stays readable for ever
        runtime.shutdown()

    loop.add_reader(sys.stdin, at_eof)
