"""A client that leaves busy workers alone, and says at once when all of them are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, Self

from reqplane.balancing import ByLoad, KnownLoad
from reqplane.client import Client
from reqplane.context import Context
from reqplane.errors import WorkerBusy
from reqplane.interfaces import Outcome, RouterPolicy
from reqplane.model import Instance, Request
from reqplane.stream import Stream


class PushRouter:
    """Calls one endpoint by one router mode, passing over workers that are busy.

    How busy a worker is: its requests, ours and those of others as far as it has reported them, divided by
    its capacity, `serve_endpoint(max_concurrent=…)`.  A worker that tells no capacity is never busy here;
    one that tells its capacity and sends no reports is judged by our own requests.
    """

    def __init__(self, client: Client, policy: RouterPolicy) -> None:
        self.client = client
        self._policy = policy

    @classmethod
    async def from_client_with_threshold(
        cls, client: Client, router_mode: str | None = None, busy_threshold: float | None = None
    ) -> Self:
        """A router on the client's endpoint.

        `router_mode`: a policy's name, the client's own if left out.  `busy_threshold`: the share of its
        capacity from which on a worker is busy, above 0 and up to 1; None = nobody ever is.
        """
        threshold = _checked(busy_threshold)
        if router_mode is not None and router_mode != client.router_mode:
            client = await client.routed(router_mode)
        return cls(client, client.policy if threshold is None else _unless_busy(client, threshold))

    def generate(
        self,
        request: Any,
        *,
        context: Context | None = None,
        timeout: float | None = None,
        annotated: bool = False,
    ) -> Stream:
        """As `Client.generate`.  WorkerBusy, before anything is sent, if every worker is busy."""
        return Stream(self.client, request, self._policy, None, context, timeout, annotated)

    def direct(
        self,
        request: Any,
        instance_id: int,
        *,
        context: Context | None = None,
        timeout: float | None = None,
        annotated: bool = False,
    ) -> Stream:
        """As `Client.direct`: the worker of this number, busy or not."""
        return self.client.direct(request, instance_id, context=context, timeout=timeout, annotated=annotated)


def _checked(threshold: object) -> float | None:
    if threshold is None:
        return None
    if not isinstance(threshold, int | float) or isinstance(threshold, bool):
        raise TypeError(f"busy_threshold is {threshold!r:.60}, wanted a number or None")
    if not 0 < threshold <= 1:
        raise ValueError(f"busy_threshold is {threshold:g}, wanted more than 0 and at most 1, or None")
    return float(threshold)


def _unless_busy(client: Client, threshold: float) -> RouterPolicy:
    """The client's policy with this threshold: one, however many routers are made."""
    policy = client.thresholds.get(threshold)
    if policy is None:
        policy = client.thresholds[threshold] = UnlessBusy(client.policy, client.path, threshold)
        client.table.inform(policy)
    return policy


class UnlessBusy(ByLoad):
    """Another policy, which gets to see only workers that are not busy."""

    name = "unless_busy"

    def __init__(self, inner: RouterPolicy, path: str, threshold: float) -> None:
        super().__init__()
        self._inner = inner  # who there is, and what they report, it is told by the table
        self._path = path
        self._threshold = threshold
        self._busy: set[int] = set()

    def pick(self, request: Request, avoid: AbstractSet[int]) -> Instance | None:
        if not self._busy:
            return self._inner.pick(request, avoid)
        if len(self._busy) == len(self._known):
            raise WorkerBusy(
                f"each has at least {self._threshold:.0%} of its capacity in use",
                workers=len(self._busy),
                endpoint=self._path,
            )
        return self._inner.pick(request, _Either(avoid, self._busy) if avoid else self._busy)

    def changed(self, added: Iterable[Instance], removed: Iterable[Instance]) -> None:
        super().changed(added, removed)
        self._busy &= self._known.keys()
        for known in self._known.values():
            self._moved(known)

    def started(self, instance: Instance) -> None:
        super().started(instance)
        self._inner.started(instance)

    def finished(self, instance: Instance, outcome: Outcome) -> None:
        super().finished(instance, outcome)
        self._inner.finished(instance, outcome)

    def _moved(self, known: KnownLoad) -> None:
        capacity = known.instance.capacity
        if capacity and known.load >= self._threshold * capacity:
            self._busy.add(known.instance.incarnation)
        else:
            self._busy.discard(known.instance.incarnation)


class _Either(AbstractSet[int]):
    """What is in one of two sets, without making a third."""

    def __init__(self, one: AbstractSet[int], other: AbstractSet[int]) -> None:
        self._one, self._other = one, other

    def __contains__(self, item: object) -> bool:
        return item in self._one or item in self._other

    def __iter__(self) -> Iterator[int]:
        yield from self._one | self._other

    def __len__(self) -> int:
        return len(self._one | self._other)
