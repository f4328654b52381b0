"""Workers that register nowhere, and a frontend that has their URLs in a list."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import reqplane
from fleet import PATH, Fleet
from reqplane import CannotConnect, DeliveryUnknown

pytestmark = pytest.mark.system


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "unused")
    fleet.env |= {"DYN_DISCOVERY_BACKEND": "static", "DYN_STATIC_INSTANCES": f"{PATH}=http://balancer"}
    yield fleet
    fleet.close()


async def origin(worker: subprocess.Popen[str]) -> str:
    """`http://host:port` of a worker, from the lines that it says when it starts."""
    assert worker.stderr is not None
    while line := await asyncio.to_thread(worker.stderr.readline):
        if found := re.search(r"serving .* found by static, at (http://[^/]+)/", line):
            return found[1]
    raise AssertionError("the worker did not start")


async def kill(worker: subprocess.Popen[str], client: reqplane.Client) -> None:
    """Return when the frontend has noticed: until then a request may have run, and is not repeated."""
    worker.kill()
    worker.wait()
    for _ in client.instances():
        with suppress(DeliveryUnknown, CannotConnect):
            await pid_of(client.round_robin({}))


async def pid_of(stream: reqplane.Stream) -> int:
    (answer,) = [item async for item in stream]
    return answer["pid"]


@pytest.mark.parametrize(
    "path", ["", "/v1/dynamo/namespace.test.component.worker.endpoint.generate.instance.7"]
)
async def test_two_workers_answer_in_turn_until_one_is_killed(fleet: Fleet, path: str) -> None:
    workers = [fleet.start("context") for _ in range(2)]
    urls = [await origin(worker) + path for worker in workers]
    fleet.env["DYN_STATIC_INSTANCES"] = ",".join(f"{PATH}={url}" for url in urls)
    async with fleet.client(workers=2) as client:
        assert client.instance_ids() == [0, 1]
        answers = Counter([await pid_of(client.round_robin({})) for _ in range(6)])
        assert answers == {worker.pid: 3 for worker in workers}
        named = [await pid_of(client.direct({}, number)) for number in (1, 0, 1)]
        assert named == [workers[number].pid for number in (1, 0, 1)]

        await kill(workers[0], client)
        assert {await pid_of(client.round_robin({})) for _ in range(4)} == {workers[1].pid}

        await kill(workers[1], client)
        with pytest.raises(CannotConnect):
            await pid_of(client.round_robin({}))
    assert not Path(fleet.env["DYN_FILE_KV"]).exists()
