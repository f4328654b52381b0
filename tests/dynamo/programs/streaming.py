"""Long answers, several at once, with and without annotations, and one that is read slowly.

Processes: worker, client
"""

import asyncio
import sys

from dynamo.runtime import DistributedRuntime, dynamo_worker


async def count(request, context):
    for i in range(request["n"]):
        yield {"i": i, "pad": "x" * request.get("size", 0)}


async def add_up(client, n):
    total = 0
    async for item in await client.random({"n": n}, annotated=False):
        total += item["i"]
    return total


@dynamo_worker()
async def main(runtime: DistributedRuntime):
    endpoint = runtime.endpoint("programs.streaming.count")
    if sys.argv[1] == "worker":
        await endpoint.serve_endpoint(count)
        return
    client = await endpoint.client()
    await client.wait_for_instances()

    stream = await client.round_robin({"n": 3})
    async for item in stream:
        print("annotated", item.data(), item.event(), item.comments(), item.id(), item.is_error())
    print("shown", [repr(item) async for item in await client.generate({"n": 1})])
    print("again", [item async for item in stream])

    print("plain", [item async for item in await client.round_robin({"n": 3}, annotated=False)])
    print("neither", [item async for item in await client.round_robin({"n": 2}, None)])
    print("none", [item async for item in await client.round_robin({"n": 0})])

    print("sums", await asyncio.gather(*(add_up(client, n) for n in (10, 100, 1000))))

    slow, size = 0, 0
    async for item in await client.random({"n": 64, "size": 50_000}, False):
        slow += 1
        size += len(item["pad"])
        if slow % 16 == 0:
            await asyncio.sleep(0.05)
    print("slowly", slow, size)

    one = await client.random({"n": 5}, annotated=False)
    print("by hand", [(await anext(one))["i"], (await one.__anext__())["i"]])
    print("the rest", [item["i"] async for item in one])


asyncio.run(main())
