"""When a session has to do something of itself."""

from __future__ import annotations

import time

from reqplane.discovery.etcd.seam import Listing

_LATE = 1.0
"""Seconds that a watch may take to tell what a listing has."""


class _Beat:
    """Something that is due again and again."""

    def __init__(self, period: float) -> None:
        self._period = period
        self.at = time.monotonic() + period

    def again(self) -> None:
        self.at = time.monotonic() + self._period

    def is_due(self) -> bool:
        if time.monotonic() < self.at:
            return False
        self.again()
        return True


class Beats:
    """A session's beats.  `resumed`: its watch goes on from an earlier one, and was not compared yet."""

    def __init__(self, ttl: float, listing: Listing | None) -> None:
        self.keep, self.check = _Beat(ttl / 3), _Beat(ttl / 4)
        self.compare = _Beat(min(_LATE, ttl / 8))
        self.resumed = listing is not None
        self.listing = listing

    def compare_with(self, listing: Listing) -> None:
        self.listing = listing
        self.compare.again()

    def next(self) -> float:
        """Seconds until something is due."""
        compare = [self.compare.at] if self.listing is not None else []
        return min(self.keep.at, self.check.at, *compare) - time.monotonic()
