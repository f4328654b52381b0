"""Where bytes are received into, before anybody knows what they are."""

from __future__ import annotations

READ_BYTES = 64 * 1024
"""What is read at once."""
MOST_REST = 72 * 1024
"""The beginning of a message that may wait for more of it."""


class Chunk:
    """One for all connections of an event loop.

    A loop asks for a buffer, reads into it and says so within one step, so no two connections use it at a
    time; and nothing of it is kept, so ten thousand connections cost no more than one.
    """

    __slots__ = ("_window", "bytes", "view")

    def __init__(self) -> None:
        self.bytes = bytearray(MOST_REST + READ_BYTES)
        self.view = memoryview(self.bytes)
        self._window = self.view[:READ_BYTES]

    def window(self, rest: bytes = b"") -> memoryview:
        """Where the next bytes go; `rest` is put in front of them."""
        if not rest:
            return self._window
        size = len(rest)
        self.bytes[:size] = rest
        return self.view[size : size + READ_BYTES]
