"""Everything goes to the worker that came last, so that a canary gets it all."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from reqplane.interfaces import RouterPolicy
from reqplane.model import Instance, Request


class Newest(RouterPolicy):
    name = "newest"

    def __init__(self) -> None:
        self._workers: dict[int, Instance] = {}

    def changed(self, added: Iterable[Instance], removed: Iterable[Instance]) -> None:
        for worker in removed:
            self._workers.pop(worker.incarnation, None)
        for worker in added:
            self._workers[worker.incarnation] = worker

    def pick(self, request: Request, avoid: AbstractSet[int]) -> Instance | None:
        untried = (one for one in reversed(self._workers.values()) if one.incarnation not in avoid)
        return next(untried, None)
