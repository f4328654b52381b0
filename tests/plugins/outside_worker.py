"""A worker whose items tell which one it is; run with its name as the argument."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import reqplane


async def answer(request: Any):
    for number in range(request["n"]):
        yield {"worker": sys.argv[1], "i": number, "echo": request.get("echo")}
    if request.get("fail"):
        raise ValueError("as you wish")
    if request.get("odd"):
        yield object()


async def main() -> None:
    async with reqplane.connect() as runtime:
        await runtime.endpoint("test.outside.answer").serve_endpoint(answer)


asyncio.run(main())
