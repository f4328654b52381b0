"""What a caller sees when a handler fails, when nobody is there, and when the call itself is wrong.

Processes: worker, client
"""

import asyncio
import sys

from dynamo.llm.exceptions import Cancelled, ConnectionTimeout, DynamoException, HttpError, InvalidArgument
from dynamo.runtime import DistributedRuntime, dynamo_worker


class OutOfMemory(RuntimeError):
    pass


RAISED = {
    "value": ValueError("too long"),
    "type": TypeError("wanted a text"),
    "key": KeyError("missing"),
    "runtime": RuntimeError("boom"),
    "own": OutOfMemory("none left"),
    "empty": RuntimeError(),
    "unicode": ValueError("zu groß: ½"),
    "invalid": InvalidArgument("the prompt has 9 tokens, 8 are allowed"),
    "dynamo": DynamoException("something"),
    "cancelled": Cancelled("given up"),
    "timeout": ConnectionTimeout("the store is slow"),
    "not found": HttpError(404, "no such model"),
    "bad request": HttpError(422, "no such field"),
    "teapot": HttpError(599, "no status"),
}


async def fail(request):
    for i in range(request["after"]):
        yield i
    raise RAISED[request["name"]]


async def attempt(label, call):
    items = []
    try:
        async for item in await call():
            items.append(item.data())
        print(label, items, "ended")
    except Exception as error:
        print(label, items, type(error).__name__, error)


@dynamo_worker()
async def main(runtime: DistributedRuntime):
    endpoint = runtime.endpoint("programs.errors.fail")
    if sys.argv[1] == "worker":
        await endpoint.serve_endpoint(fail)
        return
    client = await endpoint.client()
    await client.wait_for_instances()
    for name in RAISED:
        await attempt(f"{name}, at once:", lambda: client.random({"name": name, "after": 0}))  # noqa: B023
        await attempt(f"{name}, later:", lambda: client.random({"name": name, "after": 2}))  # noqa: B023
    nobody = await runtime.endpoint("programs.errors.nobody").client()
    print(nobody.instance_ids(), nobody.instances())
    await attempt("nobody:", lambda: nobody.random({}))
    await attempt("nobody of this number:", lambda: client.direct({}, 12345))
    wrong = {
        "no request": lambda: client.random(),
        "no number": lambda: client.direct({}),
        "context": lambda: client.random({}, context=5),
        "annotated": lambda: client.random({}, annotated=5),
        "router_mode": lambda: endpoint.client("random"),
        "path": lambda: runtime.endpoint(5),
    }
    for name, call in wrong.items():
        try:
            print(name, await call())
        except TypeError as error:
            print(name, "TypeError", error)
    for path in ("programs.errors", "a.b.c.d"):
        try:
            print(runtime.endpoint(path))
        except ValueError:
            print(path, "ValueError")
    for code, text in (("404", "x"), (600, "x"), (404, None)):
        try:
            print(HttpError(code, text))
        except ValueError:
            print(code, text, "ValueError")


asyncio.run(main())
