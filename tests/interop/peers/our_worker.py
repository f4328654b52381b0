"""A worker of ours: `our_worker.py PATH [PATH OF AN ENDPOINT TO RELAY TO]`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import ours
import reqplane
from handling import Handling
from lines import Lines


async def main(path: str, onward: str | None) -> None:
    lines = Lines()
    handling = Handling(lines, ours.describe)
    async with reqplane.connect(signals=False) as runtime:
        if onward is not None:
            client = await runtime.endpoint(onward).client()
            await client.wait_for_instances()

            async def relay(request: Any, context: reqplane.Context) -> AsyncIterator[Any]:
                async for item in client.round_robin(request["onward"], context=context):
                    yield item

            handling.relay = relay
        lines.say("hello", **ours.hello(), instance=runtime.incarnation)
        obeying = asyncio.create_task(handling.obey(runtime.shutdown))
        await runtime.endpoint(path).serve_endpoint(handling.generate)
        obeying.cancel()
    lines.say("left")


asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
