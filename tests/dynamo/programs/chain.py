"""The older way: link by link to an endpoint, with the arguments of then.

Processes: worker, client
Version: 0.7.1
"""

import asyncio
import sys

from dynamo.runtime import DistributedRuntime, dynamo_worker


async def generate(request, context):
    for i in range(request["n"]):
        yield {"i": i, "stopped": context.is_stopped()}


@dynamo_worker(static=False)
async def main(runtime: DistributedRuntime):
    component = runtime.namespace("programs").component("chain")
    endpoint = component.endpoint("generate")
    if sys.argv[1] == "worker":
        await component.create_service()
        await endpoint.serve_endpoint(generate)
        return
    client = await endpoint.client()
    await client.wait_for_instances()
    async for item in await client.round_robin({"n": 3}):
        print(item.data())
    async for item in await client.random({"n": 1}):
        print(item.event(), item.comments(), item.id())


asyncio.run(main())
