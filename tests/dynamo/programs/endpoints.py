"""One process that serves several endpoints of two components, by functions, methods and objects, on uvloop.

Processes: worker, client
"""

import asyncio
import sys

import uvloop
from dynamo.runtime import DistributedRuntime, Endpoint, dynamo_worker


class Store:
    def __init__(self):
        self.texts = {}

    async def put(self, request):
        self.texts[request["key"]] = request["text"]
        yield len(self.texts)

    async def get(self, request, context=None):
        yield self.texts.get(request)
        yield context is not None

    async def __call__(self, request, *, context):
        for key in sorted(self.texts):
            yield key


def make(request):
    """Not an async generator itself: it gives one."""

    async def items():
        for _ in range(2):
            yield request

    return items()


@dynamo_worker()
async def main(runtime: DistributedRuntime):
    store = Store()
    handlers = {
        "programs.store.put": store.put,
        "programs.store.get": store.get,
        "dyn://programs.store.list": store,
        "programs.other.twice": make,
    }
    endpoints: dict[str, Endpoint] = {path: runtime.endpoint(path) for path in handlers}
    if sys.argv[1] == "worker":
        serving = [endpoints[path].serve_endpoint(handler) for path, handler in handlers.items()]
        print("pending", all(not one.done() for one in serving))
        await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
        return
    clients = {}
    for path, endpoint in endpoints.items():
        clients[path.rpartition(".")[2]] = client = await endpoint.client()
        ids = await client.wait_for_instances()
        print(path, len(ids))

    async def ask(name, request):
        print(name, request, [item.data() async for item in await clients[name].round_robin(request)])

    await ask("put", {"key": "b", "text": "second"})
    await ask("put", {"key": "a", "text": None})
    await ask("get", "b")
    await ask("get", "a")
    await ask("list", {})
    await ask("twice", [1, 2.5, "ä", None, True, b"\x00\xff", {"nested": {"deep": []}}])
    print(await asyncio.gather(*(clients["twice"].generate(i) for i in range(3))) != [])


uvloop.install()
asyncio.run(main())
