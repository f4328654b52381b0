"""Two workers, and calls to either of them.

Processes: worker a, worker b, client
"""

import asyncio
import sys
from collections import Counter

from dynamo.runtime import DistributedRuntime, dynamo_worker


async def who(request):
    yield sys.argv[2]


@dynamo_worker()
async def main(runtime: DistributedRuntime):
    endpoint = runtime.endpoint("programs.direct.who")
    if sys.argv[1] == "worker":
        await endpoint.serve_endpoint(who)
        return
    client = await endpoint.client()
    ids = await client.wait_for_instances()
    while len(ids) < 2:
        await asyncio.sleep(0.02)
        ids = client.instance_ids()
    print(len(set(ids)), "workers")

    async def asked(call):
        return [item.data() async for item in await call]

    names = {}
    for number in ids:
        answers = [await asked(client.direct({}, number)) for _ in range(3)]
        print("always the same:", all(answer == answers[0] for answer in answers))
        names[number] = answers[0][0]
    print("both:", sorted(names.values()))

    turns = [(await asked(client.round_robin({})))[0] for _ in range(6)]
    print("by turns:", sorted(Counter(turns).items()), turns[0] != turns[1], turns[:2] * 3 == turns)
    print("at random:", {(await asked(client.random({})))[0] for _ in range(40)} == {"a", "b"})

    for instance in client.instances():
        same = str(instance) == f"programs/direct/who/{instance.instance_id}"
        print(instance.namespace, instance.component, instance.endpoint, instance.instance_id in ids, same)
    print("one instance twice:", client.instances()[0] == client.instances()[0])


asyncio.run(main())
