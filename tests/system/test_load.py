"""Load reports between real processes: what one frontend sends, another one learns of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reqplane
from fleet import PATH, Fleet
from memory_planes import eventually

pytestmark = pytest.mark.system


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "discovery")
    yield fleet
    fleet.close()


async def pids(client: reqplane.Client, count: int) -> Counter[int]:
    """Which workers answer so many calls, one after the other."""
    return Counter([(await anext(aiter(client.generate({"context": True}))))["pid"] for _ in range(count)])


@pytest.mark.parametrize("mode", ["least_loaded", "power_of_two"])
async def test_a_worker_that_others_keep_busy_is_left_alone(fleet: Fleet, mode: str, tmp_path: Path) -> None:
    """The other frontend's requests come to an end by END, and in between by REPORT."""
    for _ in range(2):
        fleet.start("load")
    env = fleet.env | {"DYN_ROUTER_MODE": mode}
    async with fleet.client(workers=2) as busy, reqplane.connect(env, signals=False) as runtime:
        client = await runtime.endpoint(PATH).client()
        await client.wait_for_instances()
        both = [(await anext(aiter(client.direct({}, number))))["pid"] for number in (0, 1)]
        policy: Any = client._policies[mode]
        held = [await busy.direct({"hold": True}, 0) for _ in range(5)]
        await eventually(lambda: max(known.others for known in policy._known.values()) == 5)
        assert await pids(client, 12) == {both[1]: 12}
        for stream in held:
            await stream.aclose()
        await eventually(lambda: all(known.others == 0 for known in policy._known.values()))
        assert set(await pids(client, 40)) == set(both)
