"""Somebody who watches, and adds up what is told as a frontend's table of workers does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeAlias, cast

from reqplane.errors import DiscoveryError
from reqplane.interfaces import Discovery
from reqplane.model import Change, EndpointId, Instance

from reqplane_conformance.verdict import Nonconformance, check

Key: TypeAlias = tuple[EndpointId, int]
"""An endpoint and a worker's incarnation: what a frontend knows a worker by."""

GOES_ON = "watch.goes_on"
_RETRY_PAUSE = 0.05


class Follower:
    """Follows a watch.

    `first` is the first batch, `changes` all of them in order, `there` who is there now.  Only what is of
    the case's own namespace counts; there may be others.
    """

    def __init__(
        self, backend: Discovery, endpoint: EndpointId | None, namespace: str, patience: float, *, again: bool
    ) -> None:
        self._backend, self._endpoint, self._namespace = backend, endpoint, namespace
        self._patience, self._again = patience, again
        self.first: list[Change] | None = None
        self.changes: list[Change] = []
        self.there: dict[Key, Instance] = {}
        self.over = False
        """The watch ended, or was ended."""
        self.error: BaseException | None = None
        self._moved, self._may = asyncio.Event(), asyncio.Event()
        self._may.set()
        self._task = asyncio.get_running_loop().create_task(self._follow(), name="watching")

    async def _follow(self) -> None:
        try:
            while True:
                await self._watch_once()
                if not self._again:
                    break
                await asyncio.sleep(_RETRY_PAUSE)
        except Exception as error:
            self.error = error
        finally:
            self.over = True
            self._moved.set()

    async def _watch_once(self) -> None:
        is_first = True
        try:
            async for batch in self._backend.watch(self._endpoint):
                self._take(_checked(batch), is_first)
                is_first = False
                await self._may.wait()
        except DiscoveryError:
            if not self._again:
                raise

    def _take(self, batch: Iterable[Change], is_first: bool) -> None:
        own = [change for change in batch if change.instance.endpoint.namespace == self._namespace]
        if is_first:  # what it does not hold is gone
            listed = {_key(change.instance) for change in own if change.up}
            self.there = {key: one for key, one in self.there.items() if key in listed}
            self.first = self.first if self.first is not None else own
        for change in own:
            self._note(change)
        self._moved.set()

    def _note(self, change: Change) -> None:
        self.changes.append(change)
        key = _key(change.instance)
        former = self.there.get(key)
        if change.up and not change.instance.draining:
            self.there[key] = change.instance
        elif former is not None and former.instance_id == change.instance.instance_id:
            del self.there[key]  # the number that a worker has now, not one that it had before

    def hold(self) -> None:
        """Take no further batch until `go_on`."""
        self._may.clear()

    def go_on(self) -> None:
        self._may.set()

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def incarnations(self) -> set[int]:
        return {incarnation for _, incarnation in self.there}

    def sees(self, worker: Any) -> bool:
        return (worker.endpoint, worker.incarnation) in self.there

    def of(self, worker: Any) -> list[Change]:
        """All that was told of a worker."""
        key = (worker.endpoint, worker.incarnation)
        return [change for change in self.changes if _key(change.instance) == key]

    def shown(self) -> str:
        """The last changes, for a message."""
        listed = ", ".join(map(_told, self.changes[-6:])) or "nothing"
        return f"its watch has told {'… ' if len(self.changes) > 6 else ''}{listed}"

    async def until(
        self, condition: Callable[[], object], what: str, within: float = 5.0, look: str = "", blame: str = ""
    ) -> None:
        """Wait until it holds; Nonconformance that says that `what` was not told."""
        __tracebackhide__ = True
        deadline = time.monotonic() + within * self._patience
        while not condition():
            self.check_goes_on()
            left = deadline - time.monotonic()
            check(
                left > 0,
                did=f"a watch did not tell {what} within {within * self._patience:g} s; {self.shown()}",
                wanted=f"the watch tells {what}",
                look=look or "how changes reach those who watch",
                blame=blame,
            )
            self._moved.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), left)

    def check_goes_on(self) -> None:
        """Nonconformance if the watch is over, of itself."""
        __tracebackhide__ = True
        if isinstance(self.error, Nonconformance):
            raise self.error
        if self.error is not None:
            is_ours = isinstance(self.error, DiscoveryError)
            raise Nonconformance(
                f"a watch raised {type(self.error).__name__}: {self.error}",
                "a watch goes on while the backend is open and its server is there",
                "`watch`, and what it waits for",
                blame=GOES_ON if is_ours else "life.only_our_errors",
            ) from self.error
        check(
            not self.over,
            did="a watch ended of itself",
            wanted="a watch goes on until the backend is closed",
            look="`watch`: it loops for ever, and tells each change",
            blame=GOES_ON,
        )

    async def until_over(self, within: float = 5.0) -> bool:
        """Wait for the watch's end; whether it came."""
        await asyncio.wait({self._task}, timeout=within * self._patience)
        return self._task.done()

    async def aclose(self) -> None:
        """Leave, as a frontend that is not interested any more."""
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=2.0 * self._patience)
        check(
            self._task.done(),
            did="a watch that was cancelled did not end",
            wanted="cancelling a task that follows a watch ends it at once",
            look="an `except` in `watch` that catches CancelledError, and a loop around it",
            blame="watch.cancelled",
        )


def _key(instance: Instance) -> Key:
    return instance.endpoint, instance.incarnation


def _told(change: Change) -> str:
    one = change.instance
    way = "up" if change.up else "down"
    return f"{way} {one.endpoint.component}.{one.endpoint.name}/{one.instance_id} ({one.incarnation:x})"


def _checked(batch: Any) -> list[Change]:
    """The batch, if it is one."""
    is_batch = isinstance(batch, list) and all(isinstance(one, Change) for one in cast(list[object], batch))
    check(
        is_batch,
        did=f"a watch gave {batch!r:.200}",
        wanted="each batch is a list of reqplane.model.Change",
        look="what `watch` yields",
        blame="watch.told_in_changes",
    )
    return cast(list[Change], batch)
