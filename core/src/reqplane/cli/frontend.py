"""`reqplane frontend`: the HTTP front."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import re
from typing import Any

from reqplane.cli.arguments import Commands, UsageError, add_command
from reqplane.cli.running import run_async
from reqplane.settings import host, port

_NEEDED = ("hypercorn", "prometheus_client")
_PATTERN = re.compile(r"[A-Za-z0-9_.*?\[\]!-]+")


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "frontend",
        run,
        summary="offer endpoints by HTTP: JSON in, NDJSON or server-sent events out; /health and /metrics",
        example="reqplane frontend --http-port 8000 --endpoint 'default.backend.*'",
    )
    parser.add_argument(
        "--http-host", metavar="HOST", type=_host, default="127.0.0.1", help="what it listens on (127.0.0.1)"
    )
    parser.add_argument(
        "--http-port", metavar="PORT", type=_port, default=8000, help="0 = any free port (8000)"
    )
    parser.add_argument(
        "--endpoint",
        metavar="PATTERN",
        action="append",
        type=_pattern,
        help="offer endpoints like this, such as 'default.backend.*'; may be given several times",
    )


def run(arguments: Any) -> int:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f'{" and ".join(missing)} not installed: `pip install "reqplane[frontend]"`')
    patterns: list[str] | None = arguments.endpoint
    if not patterns and not _is_loopback(arguments.http_host):
        raise UsageError(
            f"--http-host {arguments.http_host} can be reached from elsewhere, by whoever likes: say what is "
            f"offered there by --endpoint PATTERN (--endpoint '*' offers everything)"
        )
    from reqplane.front.command import serve

    return run_async(serve(arguments.http_host, arguments.http_port, patterns or ["*"]))


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _pattern(text: str) -> str:
    """One that some endpoint's path can match."""
    pattern = text.removeprefix("dyn://")
    dots = re.sub(r"\[[^]]*\]", "?", pattern).count(".")
    if not _PATTERN.fullmatch(pattern) or dots > 2 or (dots < 2 and "*" not in pattern):
        raise argparse.ArgumentTypeError(
            f"{text!r} matches no endpoint: wanted a path such as default.backend.generate, with * and ?"
        )
    return pattern


def _host(text: str) -> str:
    try:
        return host(text).removeprefix("[").removesuffix("]")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _port(text: str) -> int:
    try:
        return port(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
