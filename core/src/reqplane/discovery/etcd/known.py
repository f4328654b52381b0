"""Who is there, for those who begin to watch later.  Only touched on the event loop."""

from __future__ import annotations

from collections.abc import Iterable

from reqplane.model import Change, EndpointId, Instance

_Key = tuple[EndpointId, int]


class Known:
    """What the changes so far add up to."""

    def __init__(self) -> None:
        self._there: dict[_Key, Instance] = {}
        self._held: dict[_Key, tuple[Instance, float]] = {}

    def follow(self, changes: Iterable[Change], now: float) -> None:
        for change in changes:
            key = (change.instance.endpoint, change.instance.instance_id)
            if change.up:
                self._held.pop(key, None)
                self._there[key] = change.instance
                continue
            former = self._there.get(key)
            if former is not None and former.incarnation == change.instance.incarnation:
                del self._there[key]
                if change.hold:
                    self._held[key] = (former, now + change.hold)

    def listing(self, now: float) -> list[Change]:
        """Those who are there, and those who are held: they come and are held again for what is left."""
        self._held = {key: held for key, held in self._held.items() if held[1] > now}
        living = {(one.endpoint, one.incarnation) for one in self._there.values()}
        listing = [Change(instance, up=True) for instance in self._there.values()]
        for instance, until in self._held.values():
            if (instance.endpoint, instance.incarnation) not in living:
                listing += [Change(instance, up=True), Change(instance, up=False, hold=until - now)]
        return listing
