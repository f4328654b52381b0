"""Router policies that look at the workers' load: the least loaded, and the better of two.

A worker's load is how many requests it has to do: those that this client has sent it, counted here, and
those of others, as far as its last report told.  A report says how many there are in all, so others have
what is left when ours are taken off.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from reqplane.interfaces import Outcome, RouterPolicy
from reqplane.model import Instance, Load, Request

_MOST = 100_000
"""What a report may tell of others' requests: ten times what a worker runs."""


class KnownLoad:
    """One worker's load, as far as it is known here."""

    __slots__ = ("instance", "others", "own")

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.own = 0
        self.others = 0

    @property
    def load(self) -> int:
        """A report holds ours too, so this is the greater of what we count and what was told."""
        return self.own + self.others


class ByLoad(RouterPolicy):
    """Keeps count; subclasses pick.  `_moved` is called when a worker's load is another one."""

    def __init__(self) -> None:
        self._known: dict[int, KnownLoad] = {}
        self._left: dict[int, KnownLoad] = {}  # gone, with requests of ours that are not over

    def changed(self, added: Iterable[Instance], removed: Iterable[Instance]) -> None:
        added = list(added)
        stays = {instance.incarnation for instance in added}  # a new record of the same worker
        for instance in removed:
            if instance.incarnation not in stays:
                known = self._known.pop(instance.incarnation, None)
                if known is not None and known.own:
                    self._left[instance.incarnation] = known
        for instance in added:
            known = self._known.get(instance.incarnation) or self._left.pop(instance.incarnation, None)
            if known is None:
                known = KnownLoad(instance)
            known.instance = instance
            self._known[instance.incarnation] = known

    def started(self, instance: Instance) -> None:
        known = self._known.get(instance.incarnation)
        if known is not None:
            known.own += 1
            self._moved(known)

    def finished(self, instance: Instance, outcome: Outcome) -> None:
        known = self._known.get(instance.incarnation)
        if known is not None:
            known.own = max(0, known.own - 1)
            self._moved(known)
            return
        gone = self._left.get(instance.incarnation)
        if gone is not None:
            gone.own -= 1
            if not gone.own:
                del self._left[instance.incarnation]

    def reported(self, instance: Instance, load: Load) -> None:
        known = self._known.get(instance.incarnation)
        if known is not None:
            known.others = min(max(0, load.running + load.queued - known.own), _MOST)
            self._moved(known)

    def _moved(self, known: KnownLoad) -> None:
        """Its load changed."""


class LeastLoaded(ByLoad):
    """The worker with the least to do; among equals the one that has waited longest.

    Workers stand in lines, one for each load, and the loads in a heap.  A request or a report moves one
    worker to another line, so the least load is found without looking at all of them.
    """

    name = "least_loaded"

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[int, OrderedDict[int, KnownLoad]] = {}
        self._line_of: dict[int, int] = {}
        self._loads: list[int] = []  # a heap: of every line, and of some that are gone; each load once
        self._in_heap: set[int] = set()

    def changed(self, added: Iterable[Instance], removed: Iterable[Instance]) -> None:
        super().changed(added, removed)
        gone = [incarnation for incarnation in self._line_of if incarnation not in self._known]
        for incarnation in gone:
            self._leave_line(incarnation)
        for incarnation, known in self._known.items():
            if incarnation not in self._line_of:
                self._join_line(incarnation, known)

    def pick(self, request: Request, avoid: AbstractSet[int]) -> Instance | None:
        if not self._known:
            return None
        first = next(iter(self._shortest().values()))
        if first.instance.incarnation not in avoid:
            return first.instance
        untried = (
            known.instance
            for load in sorted(self._lines)
            for incarnation, known in self._lines[load].items()
            if incarnation not in avoid
        )
        return next(untried, None)

    def _shortest(self) -> OrderedDict[int, KnownLoad]:
        """The line of those with the least to do; there is one."""
        while (load := self._loads[0]) not in self._lines:
            self._in_heap.discard(heapq.heappop(self._loads))
        return self._lines[load]

    def _moved(self, known: KnownLoad) -> None:
        incarnation = known.instance.incarnation
        self._leave_line(incarnation)
        self._join_line(incarnation, known)

    def _join_line(self, incarnation: int, known: KnownLoad) -> None:
        load = self._line_of[incarnation] = known.load
        line = self._lines.get(load)
        if line is None:
            line = self._lines[load] = OrderedDict()
            if load not in self._in_heap:
                self._in_heap.add(load)
                heapq.heappush(self._loads, load)
        line[incarnation] = known

    def _leave_line(self, incarnation: int) -> None:
        load = self._line_of.pop(incarnation)
        line = self._lines[load]
        del line[incarnation]
        if not line:
            del self._lines[load]


class PowerOfTwo(ByLoad):
    """Of two workers drawn at random the one with less to do."""

    name = "power_of_two"

    def __init__(self) -> None:
        super().__init__()
        self._all: list[KnownLoad] = []
        self._draw = random.Random().random

    def changed(self, added: Iterable[Instance], removed: Iterable[Instance]) -> None:
        super().changed(added, removed)
        self._all = list(self._known.values())

    def pick(self, request: Request, avoid: AbstractSet[int]) -> Instance | None:
        candidates = self._all
        if avoid:
            candidates = [known for known in candidates if known.instance.incarnation not in avoid]
        if len(candidates) < 2:
            return candidates[0].instance if candidates else None
        first = int(self._draw() * len(candidates))
        second = int(self._draw() * (len(candidates) - 1))
        if second >= first:
            second += 1
        one, other = candidates[first], candidates[second]
        return (one if one.load <= other.load else other).instance
