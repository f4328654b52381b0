"""A handler whose requests are checked by pydantic.

Processes: worker, client
"""

import asyncio
import json
import sys

from dynamo.runtime import DistributedRuntime, dynamo_endpoint, dynamo_worker
from pydantic import BaseModel


class Request(BaseModel):
    text: str
    times: int = 1


class Response(BaseModel):
    text: str


@dynamo_endpoint(Request, Response)
async def repeat(request: Request):
    for _ in range(request.times):
        yield Response(text=request.text).model_dump()


class Backend:
    @dynamo_endpoint(Request, Response)
    async def shout(self, request: Request):
        yield Response(text=request.text.upper()).model_dump()

    @dynamo_endpoint(str, Response)
    async def anything(self, request):
        yield [type(request).__name__, request]


@dynamo_worker()
async def main(runtime: DistributedRuntime):
    backend = Backend()
    handlers = {"repeat": repeat, "shout": backend.shout, "anything": backend.anything}
    endpoints = {name: runtime.endpoint(f"programs.pydantic.{name}") for name in handlers}
    if sys.argv[1] == "worker":
        await asyncio.gather(*(endpoints[name].serve_endpoint(handler) for name, handler in handlers.items()))
        return
    requests = {
        "repeat": [
            {"text": "a", "times": 2},
            json.dumps({"text": "b"}),
            {"times": 2},
            {"text": 1},
            ["a"],
            None,
        ],
        "shout": [{"text": "loud"}, '{"times": 1}'],
        "anything": [{"text": 5}, "text", 7],
    }
    for name, endpoint in endpoints.items():
        client = await endpoint.client()
        await client.wait_for_instances()
        for request in requests[name]:
            try:
                print(name, request, [item.data() async for item in await client.random(request)])
            except ValueError as error:
                print(name, request, "ValueError", str(error).splitlines()[0])


asyncio.run(main())
