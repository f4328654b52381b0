"""A worker that leaves in order when it gets SIGTERM, as its own handler says.

Processes: worker, client
"""

import asyncio
import os
import signal
import sys

from dynamo.runtime import DistributedRuntime, dynamo_worker


async def count(request):
    yield os.getpid()
    for i in range(5):
        await asyncio.sleep(0.1)
        yield i
    print("the answer is whole")


@dynamo_worker()
async def main(runtime: DistributedRuntime):
    endpoint = runtime.endpoint("programs.signals.count")
    if sys.argv[1] == "worker":

        def leave():
            print("SIGTERM")
            runtime.shutdown()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave)
        await endpoint.serve_endpoint(count)
        print("served")
        return
    client = await endpoint.client()
    await client.wait_for_instances()
    stream = await client.random({}, annotated=False)
    os.kill(await anext(stream), signal.SIGTERM)
    print([item async for item in stream])
    while client.instance_ids():
        await asyncio.sleep(0.02)
    print(client.instance_ids())


asyncio.run(main())
