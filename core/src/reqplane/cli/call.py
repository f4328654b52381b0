"""`reqplane call`: one request from a shell."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import Mapping
from typing import Any, cast

import reqplane
from reqplane.cli.arguments import Commands, UsageError, add_command, endpoint_path, instance_number, seconds
from reqplane.escaping import escaped, escaped_json
from reqplane.settings import environment

PATIENCE = 10.0
"""Seconds to wait for a worker, where --timeout allows as many."""
_SILENCE = 1.0
"""Seconds after which one that waits is told so."""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "call",
        run,
        summary="send one request; each item of the answer is a line of JSON",
        example="reqplane call default.backend.generate '{\"n\": 3}'",
    )
    parser.add_argument("path", metavar="PATH", type=endpoint_path, help="namespace.component.endpoint")
    parser.add_argument("request", metavar="JSON", help="the request; - reads it from standard input")
    parser.add_argument("--instance", metavar="ID", type=instance_number, help="call this worker only")
    parser.add_argument("--router-mode", metavar="M", help="round_robin, least_loaded, … or a plugin's")
    parser.add_argument("--timeout", metavar="S", type=seconds, help="seconds until the answer must be whole")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell who answers, and when, on stderr")


def run(arguments: Any) -> int:
    mode = arguments.router_mode or environment().get("DYN_ROUTER_MODE")
    if mode == "direct" and arguments.instance is None:
        raise UsageError("the router mode 'direct' needs --instance ID")
    asyncio.run(_call(arguments, _request(arguments.request)))
    return 0


async def _call(arguments: Any, request: Any) -> None:
    clock = _Clock(arguments.verbose)
    options = {} if arguments.router_mode is None else {"router_mode": arguments.router_mode}
    async with reqplane.connect(env=_quiet(), signals=False) as runtime:
        client = await runtime.endpoint(arguments.path).client(**options)
        await _wait_for_instances(client, arguments.path, min(arguments.timeout or PATIENCE, PATIENCE))
        left = None if arguments.timeout is None else max(arguments.timeout - clock.elapsed(), 0.0)
        clock.restart()
        if arguments.instance is None:
            stream = client.generate(request, timeout=left)
        else:
            stream = client.direct(request, arguments.instance, timeout=left)
        async with stream:
            await _print_answer(stream, clock)


async def _wait_for_instances(client: reqplane.Client, path: str, patience: float) -> None:
    """Tell whoever waits what is waited for."""
    loop = asyncio.get_running_loop()
    words = f"waiting up to {patience:g} s for a worker of {path} …"
    telling = loop.call_later(_SILENCE, lambda: print(words, file=sys.stderr, flush=True))
    try:
        await client.wait_for_instances(timeout=patience)
    finally:
        telling.cancel()


async def _print_answer(stream: Any, clock: _Clock) -> None:
    """Print the items as they come."""
    await stream
    if stream.instance is not None:
        clock.tell(f"instance {stream.instance.instance_id} by {stream.plane}, request {stream.request_id}")
    clock.tell("accepted")
    count = 0
    async for item in stream:
        if count == 0:
            clock.tell("first item")
        count += 1
        print(as_json(item), flush=True)
    clock.tell(f"end, {count} item{'s' if count != 1 else ''}")


def _quiet() -> dict[str, str]:
    """Warnings only, for a shell; DYN_LOG still wins."""
    return {} if environment().get("DYN_LOG") else {"DYN_LOG": "warning"}


class _Clock:
    """Tells what happened when, to those who asked for it."""

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self.restart()

    def restart(self) -> None:
        self._start = time.perf_counter()

    def elapsed(self) -> float:
        return time.perf_counter() - self._start

    def tell(self, what: str) -> None:
        if self._verbose:
            print(f"{self.elapsed() * 1000:9.1f} ms  {escaped(what, keep='')}", file=sys.stderr, flush=True)


def _request(text: str) -> Any:
    try:
        return json.loads(sys.stdin.read() if text == "-" else text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the request is not JSON: {error}") from None


def as_json(item: Any) -> str:
    """One line of JSON.  What JSON has not: bytes become {"$bytes": base64}, odd keys their text."""
    try:
        line = json.dumps(item, ensure_ascii=False, default=_extra)
    except TypeError:  # json asks nobody about the keys of a mapping
        line = json.dumps(_with_text_keys(item), ensure_ascii=False, default=_extra)
    return escaped_json(line)


def _extra(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    return repr(value)


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        members = cast(Mapping[Any, Any], value)
        return {
            key if isinstance(key, str) else as_json(key): _with_text_keys(member)
            for key, member in members.items()
        }
    if isinstance(value, list):
        return [_with_text_keys(member) for member in cast(list[Any], value)]
    return value
