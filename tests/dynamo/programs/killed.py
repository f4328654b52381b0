"""Workers that die: one in the middle of an answer, and then the other before it is called.

Processes: worker a, worker b, client
"""

import asyncio
import os
import signal
import sys

from dynamo.runtime import DistributedRuntime, dynamo_worker


async def count(request):
    yield os.getpid()
    for i in range(request):
        yield i
        await asyncio.sleep(0.05)


@dynamo_worker()
async def main(runtime: DistributedRuntime):
    endpoint = runtime.endpoint("programs.killed.count")
    if sys.argv[1] == "worker":
        await endpoint.serve_endpoint(count)
        return
    client = await endpoint.client()
    while len(await client.wait_for_instances()) < 2:
        await asyncio.sleep(0.02)

    stream = await client.random(1000, annotated=False)
    dead = await anext(stream)
    print("first", await anext(stream))
    os.kill(dead, signal.SIGKILL)
    try:
        async for _ in stream:
            pass
        print("the answer looks whole")
    except Exception as error:
        print(type(error).__name__, error)

    answers = []
    while len(answers) < 10:
        try:
            answers.append([item async for item in await client.round_robin(2, annotated=False)])
        except Exception:
            await asyncio.sleep(0.02)  # until the client knows
    print("the other one answers", [answer[1:] for answer in answers] == [[0, 1]] * 10)
    print("always the same", len({answer[0] for answer in answers}), answers[0][0] != dead)

    os.kill(answers[0][0], signal.SIGKILL)
    try:
        await client.random(1)
    except Exception as error:
        print(type(error).__name__, str(error).partition(":")[0])


asyncio.run(main())
