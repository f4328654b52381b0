"""A worker in a process of its own, to be killed and frozen.

Prints one JSON line with what it has when it is ready, and then lives until its standard input ends.
If it loses its place it takes another, as a real worker does, and prints what it has then.
What it does on the way is told by its arguments, in order.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.discovery.world import FakeHost, record
from reqplane.discovery.etcd.backend import EtcdDiscovery
from reqplane.discovery.file import FileDiscovery
from reqplane.model import EndpointId

GENERATE = EndpointId("default", "backend", "generate")


async def main(steps: list[str]) -> None:
    host = FakeHost(os.environ, "dynamo" in steps)
    backend = EtcdDiscovery if "ETCD_ENDPOINTS" in os.environ else FileDiscovery
    discovery = await backend.open(host)
    if "wait" in steps:
        print("waiting", flush=True)
        sys.stdin.readline()
    registration = await discovery.reserve(GENERATE, host.incarnation)
    for n in range(50 if "republish" in steps else 1):
        if "reserve" not in steps:
            address = f"a:{n}"
            await registration.publish(record(GENERATE, registration.instance_id, host.incarnation, address))

    def tell() -> None:
        told = {"id": registration.instance_id, "incarnation": host.incarnation, "at": time.time()}
        print(json.dumps(told), flush=True)

    tell()
    leaving = asyncio.ensure_future(asyncio.to_thread(sys.stdin.readline))
    while not leaving.done():
        await asyncio.wait([leaving, registration.lost], return_when=asyncio.FIRST_COMPLETED)
        if not leaving.done():
            await registration.renew()
            await registration.publish(record(GENERATE, registration.instance_id, host.incarnation))
            tell()
    await discovery.aclose()


asyncio.run(main(sys.argv[1:]))
