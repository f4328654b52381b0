"""Receives a payload into one buffer, which grows with what has come, within the process's budget.

Whoever announces 32 MiB and sends nothing gets a small buffer.  A connection on which large payloads have
come whole already gets one of the whole size at once, so that nothing is moved.
"""

from __future__ import annotations

from reqplane.interfaces import Budget

FIRST_BYTES = 256 * 1024
"""Of the buffer for a payload on a connection that has not shown yet that it sends what it announces."""


class Intake:
    """One payload under way."""

    __slots__ = ("_budget", "_filled", "_room", "_size", "_view", "body", "held")

    def __init__(self, budget: Budget, size: int) -> None:
        self._budget = budget
        self._size = size
        self._filled = 0
        self.held = 0
        self.body = bytearray()
        self._view = memoryview(self.body)

    def begin(self, first: memoryview, trusted: int) -> bool:
        """Take in what has come of it; False if there is no room for it."""
        step = min(self._size, max(FIRST_BYTES, 2 * trusted, len(first)))
        if not self._reserve(step):
            return False
        self.body = bytearray(step)
        self._view = memoryview(self.body)
        self._view[: len(first)] = first
        self._filled = len(first)
        return True

    def buffer(self) -> memoryview:
        """Where the next bytes go; empty if there is no room for them.

        It grows here and not when it is full: by then the loop still has the part that it filled.
        """
        room = len(self.body)
        if self._filled == room and not self._grow(room):
            return memoryview(b"")
        return self._view[self._filled :]

    def filled(self, count: int) -> bool:
        """So many more of them are there; True when that was all."""
        self._filled += count
        return self._filled == self._size

    @property
    def missing(self) -> int:
        return self._size - self._filled

    def release(self) -> None:
        """Give back what it holds of the budget."""
        if self.held:
            self._budget.give(self.held)
            self.held = 0

    def _grow(self, room: int) -> bool:
        more = min(room, self._size - room)
        if not self._reserve(more):
            return False
        self._view.release()
        self.body += bytes(more)
        self._view = memoryview(self.body)
        return True

    def _reserve(self, size: int) -> bool:
        """A payload that is alone may hold any number, so it is asked for as one."""
        if self._budget.take(size):
            self.held += size
            return True
        size += self.held
        self.release()
        if self._budget.take(size):
            self.held = size
            return True
        return False
