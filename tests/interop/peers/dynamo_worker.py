"""A worker of Dynamo's: `dynamo_worker.py PATH [PATH OF AN ENDPOINT TO RELAY TO]`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import theirs
from handling import Handling
from lines import Lines


async def main(path: str, onward: str | None) -> None:
    lines = Lines()
    runtime = theirs.runtime()
    endpoint = await theirs.endpoint(runtime, path, serving=True)
    handling = Handling(lines, theirs.describe)
    if onward is not None:
        client = await (await theirs.endpoint(runtime, onward)).client()
        await client.wait_for_instances()

        async def relay(request: Any, context: Any) -> AsyncIterator[Any]:
            async for item in await client.round_robin(request["onward"], annotated=False, context=context):
                yield item

        handling.relay = relay
    lines.say("hello", **theirs.hello(), instance=endpoint.connection_id())
    obeying = asyncio.create_task(handling.obey(runtime.shutdown))
    await endpoint.serve_endpoint(handling.generate)
    if theirs.SERVING_RETURNS_EARLY:
        await handling.idle()
        await asyncio.sleep(0.5)  # for the last answer's end, which nothing tells of
    obeying.cancel()
    lines.say("left")


asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
