"""A frontend that does as it is told: a line of JSON in, a line of JSON out.  It knows of no plane.

In: `path` and `request`; `mode` (round_robin, random, direct, generate), `instance` for direct; `count`
calls one after another or, with `at_once`, together; `headers`, `timeout`; `workers` to wait for;
`threshold`, which makes a PushRouter.  Out, for each call: `items`,
`instance`, `plane`, `request_id`, `error`.
"""

import asyncio
import json
import sys

import reqplane


async def call(caller, ask):
    options = {"timeout": ask.get("timeout")}
    if "headers" in ask:
        options["context"] = reqplane.Context(ask.get("id"), headers=ask["headers"])
    if ask.get("mode") == "direct":
        stream = caller.direct(ask["request"], ask["instance"], **options)
    else:
        stream = getattr(caller, ask.get("mode", "generate"))(ask["request"], **options)
    items, error = [], None
    try:
        async for item in stream:
            items.append(item)
    except reqplane.ReqplaneError as problem:
        error = [type(problem).__name__, str(problem)]
    instance = stream.instance.instance_id if stream.instance else None
    return {
        "items": items,
        "instance": instance,
        "plane": stream.plane,
        "request_id": stream.request_id,
        "error": error,
    }


async def caller_for(client, ask):
    if "threshold" not in ask:
        return client
    return await reqplane.PushRouter.from_client_with_threshold(client, "round_robin", ask["threshold"])


async def answer(runtime, ask):
    client = await runtime.endpoint(ask["path"]).client()
    async with asyncio.timeout(30):
        while len(client.instances()) < ask.get("workers", 0):
            await asyncio.sleep(0.02)
    caller = await caller_for(client, ask)
    if ask.get("at_once"):
        return await asyncio.gather(*(call(caller, ask) for _ in range(ask["count"])))
    return [await call(caller, ask) for _ in range(ask.get("count", 1))]


async def main():
    async with reqplane.connect() as runtime:
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await answer(runtime, json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
