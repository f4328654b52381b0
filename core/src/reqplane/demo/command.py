"""`reqplane demo`, `reqplane demo server`, `reqplane demo client`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import reqplane
from reqplane.cli.arguments import Commands, UsageError, add_command
from reqplane.cli.running import chosen_or_local, leave_at_eof, run_async
from reqplane.demo.show import show
from reqplane.demo.worker import PATH, handler, language_model
from reqplane.escaping import escaped
from reqplane.settings import environment


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "demo",
        _all_in_one,
        summary="a frontend and three workers with a tiny language model; one worker is killed on the way",
        example="reqplane demo",
    )
    parts = parser.add_subparsers(title="by hand, in two terminals", metavar="PART")
    server = add_command(
        parts, "server", _server, summary="one worker, until Ctrl-C", example="reqplane demo server"
    )
    server.add_argument("--until-eof", action="store_true", help="leave when standard input ends")
    client = add_command(
        parts,
        "client",
        _client,
        summary="one prompt, answered by a worker that `reqplane demo server` started",
        example='reqplane demo client "The keeper of the light"',
    )
    client.add_argument("prompt", nargs="?", default="The keeper", help="what the text begins with")
    client.add_argument("--tokens", type=int, default=60, help="how long the answer is")


def _all_in_one(arguments: Any) -> int:
    chosen = chosen_or_local()
    if environment(chosen).get("DYN_DISCOVERY_BACKEND") == "mem":
        raise UsageError("DYN_DISCOVERY_BACKEND=mem reaches one process only, the demo has four; use file")
    return asyncio.run(show(chosen))


def _server(arguments: Any) -> int:
    return run_async(_serve(chosen_or_local(), arguments.until_eof))


async def _serve(env: Mapping[str, str], until_eof: bool) -> int:
    async with reqplane.connect(env) as runtime:
        if until_eof:
            leave_at_eof(runtime)
        try:
            await runtime.endpoint(PATH).serve_endpoint(handler(language_model()))
        except TimeoutError as error:
            print(f"reqplane: {error}", file=sys.stderr)
            return 1
    return 0


def _client(arguments: Any) -> int:
    return asyncio.run(_ask({"DYN_LOG": "warning", **chosen_or_local()}, arguments.prompt, arguments.tokens))


async def _ask(env: Mapping[str, str], prompt: str, tokens: int) -> int:
    async with reqplane.connect(env) as runtime:
        client = await runtime.endpoint(PATH).client()
        await client.wait_for_instances(timeout=10)
        stream = client.generate({"prompt": prompt, "max_tokens": tokens}, timeout=60)
        print(prompt, end="", flush=True)
        async for item in stream:
            print(escaped(item["token"]), end="", flush=True)
        worker = stream.instance.instance_id if stream.instance else "?"
        print(f"\n({stream.items_received} tokens from worker {worker} by {stream.plane})")
    return 0
