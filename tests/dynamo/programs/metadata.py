"""What a caller hands on beside the request, over two workers.

Processes: worker, client
"""

import asyncio
import sys

from dynamo.runtime import Context, DistributedRuntime, dynamo_worker

RUNTIME = None


async def inner(request, context):
    yield {"id": context.id(), "metadata": dict(context.metadata.items())}


async def outer(request, context):
    client = await RUNTIME.endpoint("programs.metadata.inner").client()
    await client.wait_for_instances()
    context.metadata["seen by"] = "outer"
    async for item in await client.random(request, context=context):
        yield item.data()
    other = context.detached("another id")
    other.metadata.pop("tenant")
    async for item in await client.random(request, context=other):
        yield item.data()


@dynamo_worker()
async def main(runtime: DistributedRuntime):
    global RUNTIME
    RUNTIME = runtime
    if sys.argv[1] == "worker":
        served = (
            runtime.endpoint(f"programs.metadata.{f.__name__}").serve_endpoint(f) for f in (inner, outer)
        )
        await asyncio.gather(*served)
        return
    client = await runtime.endpoint("programs.metadata.outer").client()
    await client.wait_for_instances()

    context = Context("request 1", {"tenant": "blue", "Größe": "weiß"})
    async for item in await client.random({}, context=context):
        print(item.data())
    print("here still", context.metadata, len(context.metadata))

    context.metadata["tenant"] = "red"
    del context.metadata["Größe"]
    async for item in await client.random({}, context=context):
        print(item.data())

    context.metadata = {"b": "2", "a": "1"}
    print(context.metadata.keys(), context.metadata.values(), list(context.metadata), "a" in context.metadata)
    print(context.metadata.get("c"), context.metadata.get("c", "default"), context.metadata.pop("a"))
    print(context.trace_headers(), context.trace_id, context.span_id, context.parent_span_id)
    for wrong in (lambda: context.metadata["c"], lambda: Context("x", {"a": 1}), lambda: Context(5)):
        try:
            print(wrong())
        except (KeyError, TypeError) as error:
            print(type(error).__name__, error)


asyncio.run(main())
