"""The kinds of calls that a soak makes, and what each must come to.

A call returns how it ended, in a word; `Wrong` says that an answer was not what it had to be.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import reqplane
from reqplane import DeadlineExceeded, HandlerFailed

Call = Callable[[reqplane.Client, random.Random], Awaitable[str]]


class Wrong(Exception):
    """An answer that is not right, whole and in order, or an error that is not the one to expect."""


def _expect(found: Any, wanted: Any) -> None:
    if found != wanted:
        raise Wrong(f"wanted {wanted!r:.200}, found {found!r:.200}")


async def echo(client: reqplane.Client, chance: random.Random) -> str:
    """A small value there and back."""
    value = {"text": "x" * chance.randrange(500), "number": chance.getrandbits(63), "list": [None, 1.5, b"b"]}
    _expect([item async for item in client.generate({"do": "echo", "value": value})], [value])
    return "whole"


async def large(client: reqplane.Client, chance: random.Random) -> str:
    """A value that goes by a POST of its own and comes back in a buffer of its own."""
    value = chance.randbytes(chance.randrange(60_000, 400_000))
    _expect([item async for item in client.generate({"do": "echo", "value": value})], [value])
    return "whole"


async def stream(client: reqplane.Client, chance: random.Random) -> str:
    """A stream to its end."""
    number = chance.randrange(1, 400)
    request = {"do": "count", "n": number, "pause": chance.choice([0, 0, 0.001])}
    _expect([item async for item in client.round_robin(request)], list(range(number)))
    return "whole"


async def slow_reader(client: reqplane.Client, chance: random.Random) -> str:
    """More than a window of items, read with pauses."""
    request = {"do": "blobs", "n": 120, "size": 5000}
    read = 0
    async for item in client.generate(request):
        _expect((item["i"], len(item["blob"])), (read, 5000))
        read += 1
        if read % 30 == 0:
            await asyncio.sleep(chance.random() / 5)
    _expect(read, 120)
    return "whole"


async def leave(client: reqplane.Client, chance: random.Random) -> str:
    """A loop that is left in the middle."""
    wanted = chance.randrange(1, 50)
    read: list[int] = []
    async for item in client.generate({"do": "count", "n": 100_000, "pause": 0.0005}):
        read.append(item)
        if len(read) == wanted:
            break
    _expect(read, list(range(wanted)))
    return "left"


async def stop(client: reqplane.Client, chance: random.Random) -> str:
    """A handler that is asked to stop; what it had sent still comes."""
    wanted = chance.randrange(1, 50)
    call = client.generate({"do": "count", "n": 2000, "pause": 0.0005})
    read: list[int] = []
    async for item in call:
        read.append(item)
        if len(read) == wanted:
            call.stop_generating()
    _expect(read, list(range(len(read))))
    return "stopped"


async def cancel(client: reqplane.Client, chance: random.Random) -> str:
    """A caller that is cancelled, wherever it stands."""
    request = {"do": "count", "n": 100_000, "pause": 0.0005}
    reading = asyncio.ensure_future(_read(client.generate(request)))
    await asyncio.wait([reading], timeout=chance.random() / 10)
    reading.cancel()
    await asyncio.wait([reading])
    if not reading.cancelled():
        raise reading.exception() or Wrong("an endless stream ended")
    return "cancelled"


async def _read(call: reqplane.Stream) -> None:
    async for _ in call:
        pass


async def fail(client: reqplane.Client, chance: random.Random) -> str:
    """A handler that raises."""
    number, text = chance.randrange(20), f"no {chance.random()}"
    read: list[int] = []
    try:
        async for item in client.generate({"do": "fail", "n": number, "text": text}):
            read.append(item)
    except HandlerFailed as error:
        _expect((read, error.items_received), (list(range(number)), number))
        if text not in str(error):
            raise Wrong(f"wanted {text!r} in {error}") from error
        return "failed"
    raise Wrong("a handler's failure looks like an end")


async def expire(client: reqplane.Client, chance: random.Random) -> str:
    """A deadline that passes."""
    try:
        async for _ in client.generate({"do": "hang"}, timeout=0.05 + chance.random() / 5):
            pass
    except DeadlineExceeded:
        return "expired"
    raise Wrong("a handler that hangs looks like an end")


CALLS: dict[Call, int] = {
    echo: 200,
    stream: 15,
    leave: 6,
    stop: 4,
    cancel: 6,
    fail: 8,
    expire: 3,
    large: 3,
    slow_reader: 2,
}
"""With how often each is made."""
