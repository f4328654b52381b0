"""What the workers of these tests serve; `reqplane serve handlers:NAME PATH` imports it."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from pathlib import Path
from typing import Any

import psutil
from reqplane import Context


async def count(request: dict[str, Any]):
    """`n` numbers, or more than that with padding and pauses."""
    padding = "x" * request.get("padding", 0)
    for i in range(request["n"]):
        if "pause" in request:
            await asyncio.sleep(request["pause"])
        yield {"i": i, "padding": padding} if padding else i


async def freeze(request: dict[str, Any]):
    """Holds up the worker's event loop, as computing would."""
    yield "freezing"
    await asyncio.sleep(0.05)  # the item goes out first
    time.sleep(request["seconds"])
    yield "awake"


async def any_of(request: dict[str, Any], context: Context):
    """`count`, `freeze` or `context`, as the request says: one worker for all."""
    if request["handler"] == "context":
        yield _told(context)
        return
    async for item in {"count": count, "freeze": freeze}[request["handler"]](request):
        yield item


made = 0
"""Items that the generators below have made in this process."""


async def tracked(request: dict[str, Any]):
    """`n` items of `size` bytes; with n = 0, how many were made so far."""
    global made
    if not request["n"]:
        yield made
    for _ in range(request["n"]):
        made += 1
        yield b"x" * request["size"]


def tracked_in_thread(request: dict[str, Any]):
    """The same, but it may block."""
    global made
    if not request["n"]:
        yield made
    for _ in range(request["n"]):
        made += 1
        yield b"x" * request["size"]


async def idle(request: dict[str, Any]):
    """One item, then nothing for ever; or what this process holds of memory."""
    if request.get("measure"):
        gc.collect()
        yield psutil.Process().memory_info().rss
    else:
        yield "open"
        await asyncio.get_running_loop().create_future()


async def context(request: Any, context: Context):
    """What a handler can tell of its call."""
    yield _told(context)


def _told(context: Context) -> dict[str, Any]:
    left = context.deadline - asyncio.get_running_loop().time()
    return {
        "id": context.id,
        "headers": dict(context.headers),
        "seconds": left if left < 1e9 else None,
        "pid": os.getpid(),
    }


async def load(request: dict[str, Any], context: Context):
    """Says who it is, and stays if it is asked to."""
    yield {"pid": os.getpid()}
    if request.get("hold"):
        await context.stopped()


async def marked(request: dict[str, Any], context: Context):
    """Goes on for ever and leaves its end in a file: "stopped", "cancelled"."""
    mark = Path(request["mark"])
    mark.write_text("running")
    try:
        i = 0
        if "silent" in request:
            await context.stopped()
        while not context.is_stopped():
            yield f"{request.get('name', '')}{i}"
            i += 1
            await asyncio.sleep(request.get("pause", 0.005))
        mark.write_text("stopped")
    except (asyncio.CancelledError, GeneratorExit):  # in its own await, or at its yield
        mark.write_text("cancelled")
        raise


async def speak(request: dict[str, Any], context: Context):
    """What the HTTP front is tested with: items, pauses, failures, bytes, headers."""
    if "headers" in request:
        yield dict(context.headers)
    for i in range(request.get("n", 0)):
        if "pause" in request:
            await asyncio.sleep(request["pause"])
        if i == request.get("fail"):
            raise ValueError("told to")
        yield {"i": i} if "size" not in request else "x" * request["size"]
        if "file" in request:
            Path(request["file"]).write_text(str(i))
    if "odd" in request:
        yield {"bytes": b"\x00\xff", "nan": float("nan")}[request["odd"]]
    if "file" in request:
        Path(request["file"]).write_text("done")


async def gated(request: dict[str, Any]):
    """One item, and another one when the file `gate` is there."""
    yield "begun"
    while not Path(request["gate"]).exists():
        await asyncio.sleep(0.05)
    yield "done"


async def noted(request: dict[str, Any]):
    """`n` numbers with pauses; each request that runs here leaves its id in a file of this process."""
    with (Path(request["folder"]) / str(os.getpid())).open("a") as file:
        file.write(f"{request['id']}\n")
    for i in range(request["n"]):
        yield i
        await asyncio.sleep(request["pause"])
