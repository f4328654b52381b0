"""Sends bodies as fast as the peer's windows and the socket allow, each in its turn."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import cast

from reqplane_http.engine import Engine
from reqplane_http.exchange import Exchange


class Bodies:
    """The bodies of one connection that are not sent to their end."""

    def __init__(self, engine: Engine, write: Callable[[], None]) -> None:
        self._engine = engine
        self._write = write
        self._unfinished: deque[Exchange] = deque()
        self.paused = False  # the socket takes no more for now

    def begin(self, exchange: Exchange) -> None:
        """Send a body, or what can be sent of it now.  A small one is left to the next flush."""
        if not self._send_some(exchange):
            self._unfinished.append(exchange)
            self.go_on()

    def go_on(self) -> None:
        """Give each body a DATA frame in turn, until the windows or the socket are full."""
        moved = True
        while moved and self._unfinished and not self.paused:
            moved = False
            for _ in range(len(self._unfinished)):
                exchange = self._unfinished.popleft()
                left = exchange.left
                if left and not self._send_some(exchange):  # nothing is left of one that was given up
                    self._unfinished.append(exchange)
                moved = moved or exchange.left < left
            self._write()

    def forget(self, exchange: Exchange) -> None:
        with contextlib.suppress(ValueError):
            self._unfinished.remove(exchange)

    def clear(self) -> None:
        self._unfinished.clear()

    def _send_some(self, exchange: Exchange) -> bool:
        """Send one DATA frame, as large as the windows allow; True when that was all of the body."""
        engine = self._engine
        room = min(engine.local_flow_control_window(exchange.stream), engine.max_outbound_frame_size)
        if exchange.left <= room:
            # h2 says bytes, and takes any buffer.
            engine.send_data(exchange.stream, cast(bytes, exchange.take(room)), end_stream=True)
            return True
        if room > 0:
            engine.send_data(exchange.stream, cast(bytes, exchange.take(room)))
        return False
