"""What a watcher has still to be told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from reqplane.model import Change, EndpointId


class Watch:
    """Gathers changes until the watcher takes them.  Only touched on the event loop.

    The first `put` is the listing, and is told even if it has nothing for this watcher.
    """

    def __init__(self, endpoint: EndpointId | None) -> None:
        self._endpoint = endpoint
        self._pending: list[Change] = []
        self._ready = asyncio.Event()
        self._closed = False
        self.listed = False
        """The listing has been put."""

    def put(self, changes: Iterable[Change]) -> None:
        wanted = [change for change in changes if self._endpoint in (None, change.instance.endpoint)]
        if wanted or not self.listed:
            self._pending += wanted
            self._ready.set()
        self.listed = True

    def close(self) -> None:
        """A waiting `take` gets None."""
        self._closed = True
        self._ready.set()

    async def take(self) -> list[Change] | None:
        """All changes since the last call, at least once there is one; None when closed."""
        await self._ready.wait()
        if self._closed:
            return None
        self._ready.clear()
        batch, self._pending = self._pending, []
        return batch
