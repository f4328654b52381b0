"""The soak's frontend: rounds of mixed calls, and at the quiet moment after each what every process holds.

frontend.py PATH SECONDS ROUND_SECONDS; prints a line of JSON a round, then one of totals.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import reqplane
from reqplane import DeliveryUnknown, StreamBroken
from soak.calls import CALLS, Call, Wrong
from soak.state import state

CALLERS = 32
STEADY = 0
"""The number of the worker that is never killed; nothing that it answers may break."""
_SETTLE = 1.0
"""Seconds for handlers that were left to notice it."""


class Tally:
    """What became of all calls."""

    def __init__(self) -> None:
        self.made = 0
        self.ended: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def call(self, kind: Call, client: reqplane.Client, chance: random.Random) -> None:
        """Make one and note its end."""
        self.made += 1
        try:
            self.ended[f"{kind.__name__}: {await kind(client, chance)}"] += 1
        except (StreamBroken, DeliveryUnknown) as error:
            self.ended[f"{kind.__name__}: {type(error).__name__}"] += 1
            if error.instance == str(STEADY):
                self.wrong.append(f"{kind.__name__}, from a worker that was not killed: {error}")
        except Exception as error:
            self.ended[f"{kind.__name__}: WRONG"] += 1
            name = "" if isinstance(error, Wrong) else f"{type(error).__name__}: "
            self.wrong.append(f"{kind.__name__}: {name}{error}")


async def a_round(tally: Tally, client: reqplane.Client, seconds: float, chance: random.Random) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    kinds, weights = list(CALLS), list(CALLS.values())

    async def caller() -> None:
        while loop.time() < end:
            (kind,) = chance.choices(kinds, weights)
            await tally.call(kind, client, chance)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def main() -> None:
    path, seconds, round_seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    chance = random.Random(4)
    tally = Tally()
    async with reqplane.connect(signals=False) as runtime:
        client = await runtime.endpoint(path).client()
        await client.wait_for_instances(timeout=20)
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            await a_round(tally, client, round_seconds, chance)
            await asyncio.sleep(_SETTLE)
            (worker,) = [item async for item in client.direct({"do": "state"}, STEADY)]
            print(json.dumps({"calls": tally.made, "frontend": state(), "worker": worker}), flush=True)
    print(json.dumps({"made": tally.made, "ended": tally.ended, "wrong": tally.wrong[:20]}), flush=True)


asyncio.run(main())
