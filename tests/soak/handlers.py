"""What a worker of the soak serves."""

from __future__ import annotations

import asyncio
from typing import Any

from reqplane import Context
from soak.state import state


async def soak(request: dict[str, Any], context: Context):
    """Whatever the request's `do` says."""
    match request["do"]:
        case "echo":
            yield request["value"]
        case "count":
            for i in range(request["n"]):
                if request["pause"]:
                    await asyncio.sleep(request["pause"])
                if context.is_stopped():
                    return
                yield i
        case "fail":
            for i in range(request["n"]):
                yield i
            raise ValueError(request["text"])
        case "hang":
            yield "hanging"
            await asyncio.get_running_loop().create_future()
        case "blobs":
            for i in range(request["n"]):
                yield {"i": i, "blob": b"b" * request["size"]}
        case "state":
            yield state()
        case other:
            raise ValueError(f"nothing is known of {other!r}")
