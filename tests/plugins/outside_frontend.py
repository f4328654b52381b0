"""A frontend that makes a call of each kind, once there are so many workers; prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import reqplane


async def collect(stream: Any) -> dict[str, Any]:
    items: list[Any] = []
    try:
        async for item in stream:
            items.append(item)
    except reqplane.ReqplaneError as error:
        index = getattr(error, "index", None)
        return {"items": items, "error": type(error).__name__, "text": str(error), "index": index}
    return {"items": items}


async def main() -> None:
    async with reqplane.connect(signals=False) as runtime:
        client = await runtime.endpoint("test.outside.answer").client()
        async with asyncio.timeout(30):
            while len(client.instances()) < int(sys.argv[1]):
                await asyncio.sleep(0.02)
        many = [collect(client.generate({"n": 20, "echo": n})) for n in range(50)]
        told = {
            "codecs": sorted({instance.codec for instance in client.instances()}),
            "mode": client.router_mode,
            "plain": await collect(client.generate({"n": 3, "echo": ["ä", None, 1.5]})),
            "many": await asyncio.gather(*many),
            "direct": await collect(client.direct({"n": 1}, 0)),
            "failed": await collect(client.generate({"n": 2, "fail": True})),
            "odd item": await collect(client.generate({"n": 1, "odd": True})),
            "odd request": await collect(client.generate({"n": object()})),
        }
    print(json.dumps(told))


asyncio.run(main())
