"""Workers and clients of both sides together, under load.

`mixed` lets them be for a while; `replaced` puts our workers into the place of Dynamo's, one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interop.peer import PATIENCE, Peer, Trouble
from interop.stage import Side, Stage

PATH = "fleet.worker.generate"
_REQUEST: Mapping[str, Any] = {"do": "count", "n": 8, "pause": 0.005}
_WIDTH = 8
"""Calls that each client keeps under way."""
_SLOW_REQUEST: Mapping[str, Any] = {"do": "count", "n": 20, "pause": 0.05}
_MANY: Mapping[Side, int] = {"reqplane": 110, "dynamo": 40}
"""The same while workers are replaced."""
SIDES: tuple[Side, Side] = ("reqplane", "dynamo")


@dataclass(frozen=True)
class Loaded:
    """What became of one client's calls."""

    side: Side
    calls: int
    whole: int
    failed: int
    again: int
    """How often the client said that nobody had a request, which was sent again then."""
    errors: Sequence[Mapping[str, Any]]
    workers: Mapping[str, int]
    least: int
    """The fewest that were under way at any moment that was looked at."""

    def __str__(self) -> str:
        who = {"reqplane": "our client", "dynamo": "Dynamo's client"}[self.side]
        text = f"{self.whole} of {self.calls} calls by {who} came whole, at least {self.least} under way"
        return f"{text}, {self.again} of them sent again" if self.again else text

    def complaint(self) -> str:
        """Why that is not what was wanted; "" if it is."""
        if self.failed or self.whole != self.calls:
            kinds = sorted({f"{one['type']}: {one['text']}" for one in self.errors})
            return f"{self.failed} of {self.calls} calls by {self.side} failed: {'; '.join(kinds)}"
        return ""


def mixed(stage: Stage, seconds: float) -> list[Loaded]:
    """Two workers and a client of each side; for so long every call must come whole."""
    workers = [stage.worker(side, PATH) for side in SIDES for _ in range(2)]
    clients = _clients(stage, len(workers))
    for client in clients:
        client.tell("load", path=PATH, width=_WIDTH, request=_REQUEST, seconds=seconds)
    loads = [_loaded(client, seconds) for client in clients]
    for load in loads:
        if complaint := load.complaint():
            raise Trouble(complaint)
        if load.again:
            raise Trouble(f"{load.again} requests by {load.side} had to be sent again")
        if len(load.workers) != len(workers):
            raise Trouble(f"the calls by {load.side} went to {dict(load.workers)}: not to everybody")
    return loads


def replaced(stage: Stage, count: int = 3) -> list[Loaded]:
    """Dynamo's workers leave one after the other, each when one of ours has come; no call may be lost."""
    former = [stage.worker("dynamo", PATH) for _ in range(count)]
    clients = _clients(stage, count)
    for client in clients:
        client.tell("load", path=PATH, width=_MANY[client.hello["side"]], request=_SLOW_REQUEST)
    for client in clients:
        client.wait("loading")
    for worker in former:
        stage.worker("reqplane", PATH)
        _know(clients, count + 1)
        worker.terminate()
        _know(clients, count)
        worker.wait("left")
        worker.ended()
    for client in clients:
        client.tell("enough")
    loads = [_loaded(client, 0) for client in clients]
    for load in loads:
        if complaint := load.complaint():
            raise Trouble(complaint)
        if load.side == "reqplane" and load.again:
            raise Trouble(f"{load.again} requests of our own client had to be sent again")
    return loads


def _clients(stage: Stage, workers: int) -> list[Peer]:
    clients = [stage.client(side) for side in SIDES]
    _know(clients, workers)
    return clients


def _know(clients: Sequence[Peer], count: int) -> None:
    for client in clients:
        client.tell("wait", path=PATH, n=count)
    for client in clients:
        client.wait("known", path=PATH)


def _loaded(client: Peer, seconds: float) -> Loaded:
    told = client.wait("loaded", within=seconds + PATIENCE)
    told.pop("event")
    side: Side = client.hello["side"]
    return Loaded(side, **told)
