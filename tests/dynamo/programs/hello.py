"""The smallest worker and client.

Processes: worker, client
"""

import asyncio
import sys

from dynamo.runtime import DistributedRuntime, dynamo_worker


async def generate(request: str):
    for name in request.split(","):
        yield f"Hello {name}!"


@dynamo_worker()
async def main(runtime: DistributedRuntime):
    endpoint = runtime.endpoint("programs.hello.generate")
    if sys.argv[1] == "worker":
        await endpoint.serve_endpoint(generate)
        return
    client = await endpoint.client()
    await client.wait_for_instances()
    async for item in await client.generate("world,sun,moon,star"):
        print(item.data())


asyncio.run(main())
