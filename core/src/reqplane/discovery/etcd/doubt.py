"""Whether a removal can be believed."""

from __future__ import annotations

_ELECTION = 2.0
"""Seconds for etcd to find itself a leader again, and to look for leases that are over."""


class Doubt:
    """etcd deletes what nobody could keep alive while it was away.  It gives every lease its whole time anew
    when it has a leader again; so for that long after it was away, what it says is gone may well be there.
    Times are in seconds on whatever clock the caller has.
    """

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._last: float | None = None
        self._until = 0.0

    def heard(self, now: float) -> None:
        """etcd has said something.  Ask this before believing it."""
        if self._last is not None and now - self._last > self._ttl / 2:
            self.arise(now)
        self._last = now

    def arise(self, now: float) -> None:
        """There is reason enough, whenever it was heard last."""
        self._until = now + self._ttl + _ELECTION

    def holds(self, now: float) -> bool:
        return now < self._until
