"""Run in a process of its own, with a JSON list of environments to try one after the other.

In each it connects, makes a call if that works, and runs `reqplane plugins`.  Prints what came of it as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sys
from typing import Any

import reqplane
import reqplane.plugins.loading
from reqplane.cli import main


async def count(request: int):
    for number in range(request):
        yield number


async def call() -> list[Any]:
    """The items of a call from this process to itself."""
    async with reqplane.connect(signals=False) as runtime:
        endpoint = runtime.endpoint("test.worker.count")
        serving = asyncio.create_task(endpoint.serve_endpoint(count))
        client = await endpoint.client()
        await client.wait_for_instances(timeout=20)
        items = [item async for item in client.generate(3)]
        runtime.shutdown()
        await serving
    return items


def attempt() -> dict[str, Any]:
    try:
        return {"items": asyncio.run(call())}
    except reqplane.ReqplaneError as error:
        fields = {name: getattr(error, name, None) for name in ("name", "distribution", "stage")}
        return {"error": type(error).__name__, "text": str(error), "cause": repr(error.__cause__), **fields}


def listing(*options: str) -> tuple[int, str, str]:
    """Exit status of `reqplane plugins`, and what it printed on both outputs."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["plugins", *options])
    return status, out.getvalue(), err.getvalue()


def outcome(env: dict[str, str]) -> dict[str, Any]:
    os.environ.update(env)
    found = {plugin["distribution"]: plugin for plugin in json.loads(listing("--json")[1])}
    return {**attempt(), "listing": listing(), "found": found}


if __name__ == "__main__":
    reqplane.plugins.loading.OPENING_SECONDS = 0.3
    print(json.dumps([outcome(env) for env in json.loads(sys.argv[1])]))
