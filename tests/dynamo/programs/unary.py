"""One answer a request.

Processes: worker, client
"""

import asyncio
import sys

from dynamo.runtime import Context, DistributedRuntime, UnaryClient, dynamo_worker, serve_unary_endpoint


async def square(request, *, context: Context):
    if request < 0:
        raise ValueError(f"{request} is below zero")
    return {"square": request * request, "by": context.id(), "for": context.metadata.get("tenant")}


async def several(request):
    for i in range(request):
        yield i


@dynamo_worker()
async def main(runtime: DistributedRuntime):
    one, many = (runtime.endpoint(f"programs.unary.{name}") for name in ("square", "several"))
    if sys.argv[1] == "worker":
        await asyncio.gather(serve_unary_endpoint(one, square), many.serve_endpoint(several))
        return
    clients = []
    for endpoint in (one, many):
        client = await endpoint.client()
        await client.wait_for_instances()
        clients.append(UnaryClient(client))
    squares, others = clients

    print(await squares.complete(12, context=Context("request 7", {"tenant": "blue"})))
    print((await squares.complete(3))["square"])
    print(await others.complete(1))
    for client, request in ((squares, -1), (others, 0), (others, 2)):
        try:
            print(await client.complete(request))
        except (RuntimeError, ValueError) as error:
            print(type(error).__name__, error)


asyncio.run(main())
