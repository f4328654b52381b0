"""A worker that leaves while it has something to do.

Processes: worker, client
"""

import asyncio
import sys

from dynamo.runtime import DistributedRuntime, dynamo_worker

RUNTIME = None


async def count(request, context):
    for i in range(10):
        yield i
        await asyncio.sleep(0.1)
    print("the answer is whole, stopped:", context.is_stopped())


async def leave(request):
    yield "leaving"
    RUNTIME.shutdown()


@dynamo_worker()
async def main(runtime: DistributedRuntime):
    global RUNTIME
    RUNTIME = runtime
    busy, control = (runtime.endpoint(f"programs.drain.{name}") for name in ("count", "leave"))
    if sys.argv[1] == "worker":
        served = asyncio.gather(
            busy.serve_endpoint(count, graceful_shutdown=True), control.serve_endpoint(leave)
        )
        await served
        print("the worker has left")
        return
    client, other = await busy.client(), await control.client()
    await client.wait_for_instances()
    await other.wait_for_instances()

    stream = await client.random({}, annotated=False)
    print("first", await anext(stream))
    print([item.data() async for item in await other.random({})])
    while client.instance_ids():
        await asyncio.sleep(0.02)
    try:
        await client.random({})
    except Exception as error:
        print(type(error).__name__, error)
    print("the rest", [item async for item in stream])


asyncio.run(main())
print("the process ends")
