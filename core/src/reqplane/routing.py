"""The simple router policies: in turn, at random, and not at all (reqplane.balancing has the others).

None looks at every worker for a request, unless it has to get round those that were tried already.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from reqplane.interfaces import RouterPolicy
from reqplane.model import Instance, Request


class _Listed(RouterPolicy):
    """Keeps the workers in the order in which they came, each process once."""

    def __init__(self) -> None:
        self._workers: list[Instance] = []

    def changed(self, added: Iterable[Instance], removed: Iterable[Instance]) -> None:
        """Take note.  One that is added and removed at once has a new record: it keeps its place."""
        known = {worker.incarnation: worker for worker in self._workers}
        new = {worker.incarnation: worker for worker in added}
        for worker in removed:
            if worker.incarnation not in new:
                known.pop(worker.incarnation, None)
        known.update(new)
        self._workers = list(known.values())


class RoundRobin(_Listed):
    """Each worker in turn."""

    name = "round_robin"

    def __init__(self) -> None:
        super().__init__()
        self._next = 0

    def changed(self, added: Iterable[Instance], removed: Iterable[Instance]) -> None:
        """Go on with the worker whose turn it was, whoever came or went."""
        had_their_turn = {worker.incarnation for worker in self._workers[: self._next]}
        super().changed(added, removed)
        self._next = sum(worker.incarnation in had_their_turn for worker in self._workers)

    def pick(self, request: Request, avoid: AbstractSet[int]) -> Instance | None:
        workers = self._workers
        for _ in workers:
            if self._next >= len(workers):
                self._next = 0
            worker = workers[self._next]
            self._next += 1
            if worker.incarnation not in avoid:
                return worker
        return None


class Random(_Listed):
    """Any worker, each as likely as the others."""

    name = "random"

    def __init__(self) -> None:
        super().__init__()
        self._draw = random.Random().random

    def pick(self, request: Request, avoid: AbstractSet[int]) -> Instance | None:
        workers = self._workers
        if not workers:
            return None
        worker = workers[int(self._draw() * len(workers))]
        if worker.incarnation not in avoid:
            return worker
        untried = [worker for worker in workers if worker.incarnation not in avoid]
        return untried[int(self._draw() * len(untried))] if untried else None


class Direct(RouterPolicy):
    """No choice: the caller names the worker."""

    name = "direct"

    def changed(self, added: Iterable[Instance], removed: Iterable[Instance]) -> None:
        """Nothing to keep."""

    def pick(self, request: Request, avoid: AbstractSet[int]) -> Instance | None:
        raise ValueError("router mode 'direct' needs client.direct(request, instance_id)")


class RouterMode(enum.StrEnum):
    """The built-in policies by Dynamo's names; a policy's own name does as well."""

    RoundRobin = "round_robin"
    Random = "random"
    LeastLoaded = "least_loaded"
    PowerOfTwo = "power_of_two"
    Direct = "direct"
