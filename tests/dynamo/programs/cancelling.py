"""A caller that stops, one that goes away, and what the handlers see of it.

Processes: worker, client
"""

import asyncio
import sys

from dynamo.runtime import Context, DistributedRuntime, dynamo_worker

SEEN = []


async def count(request, context):
    """Looks at its context before each item."""
    for i in range(1000):
        if context.is_stopped():
            SEEN.append(f"{request} saw a stop, killed: {context.is_killed()}")
            return
        yield i
        await asyncio.sleep(0.02)


async def wait(request, context):
    """Is told by its context."""
    yield "waiting"
    told = await context.async_killed_or_stopped()
    SEEN.append(f"{request} was told {told}, stopped: {context.is_stopped()}, killed: {context.is_killed()}")


async def sleep(request, context):
    """Looks at nothing."""
    yield "asleep"
    await asyncio.sleep(1.5)
    SEEN.append(f"{request} has slept")
    yield "awake"


async def seen(request):
    """What the others saw, once there is so much of it."""
    while len(SEEN) < request:
        await asyncio.sleep(0.02)
    for line in SEEN:
        yield line
    SEEN.clear()


@dynamo_worker()
async def main(runtime: DistributedRuntime):
    endpoints = {f.__name__: runtime.endpoint(f"programs.cancelling.{f.__name__}") for f in HANDLERS}
    if sys.argv[1] == "worker":
        await asyncio.gather(*(endpoints[f.__name__].serve_endpoint(f) for f in HANDLERS))
        return
    clients = {}
    for name, endpoint in endpoints.items():
        clients[name] = await endpoint.client()
        await clients[name].wait_for_instances()

    async def show(lines):
        async for line in await clients["seen"].random(lines, annotated=False):
            print("  the worker:", line)

    context = Context("stopped")
    print("stop after three items of", context.id())
    items = []
    async for item in await clients["count"].random("stopped", annotated=False, context=context):
        items.append(item)
        if len(items) == 3:
            context.stop_generating()
    print(items[:3], context.is_stopped(), context.is_killed())
    await show(1)

    print("leave after one item")
    stream = await clients["count"].random("left", annotated=False)
    async for item in stream:
        print(item)
        break
    del stream
    await show(1)

    print("a handler that waits to be told")
    context = Context()
    async for item in await clients["wait"].random("stopped", annotated=False, context=context):
        print(item)
        context.stop_generating()
    await show(1)

    print("a caller that is stopped while it waits")
    context = Context()
    stream = await clients["sleep"].random("sleeper", annotated=False, context=context)
    print(await anext(stream))
    asyncio.get_running_loop().call_later(0.1, context.stop_generating)
    started = asyncio.get_running_loop().time()
    print([item async for item in stream], asyncio.get_running_loop().time() - started < 1)
    await show(1)

    print("stopped before it is called")
    context = Context()
    context.stop_generating()
    print([item async for item in await clients["count"].random("late", annotated=False, context=context)])


HANDLERS = (count, wait, sleep, seen)
asyncio.run(main())
