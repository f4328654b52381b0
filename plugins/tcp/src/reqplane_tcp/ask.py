"""One frame on its way, and its fate."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reqplane.errors import CannotConnect, DeliveryUnknown, RequestError
from reqplane.interfaces import Timer
from reqplane.model import Body

if TYPE_CHECKING:
    from reqplane_tcp.lane import Lane


class Ask(asyncio.Future[None]):
    """It is the future that the caller awaits: no task, and cancelling it leaves nothing behind.

    Where it was sent its place among those that wait for answers stays, also when nobody waits any more.
    """

    timer: Timer | None = None
    """For a deadline that is earlier than the plane's own limit."""
    lane: Lane | None = None
    """What it waits for to be sent; None: it was sent."""
    fruitless = 0
    """How often it was given to a connection that did not take it."""

    def __init__(
        self,
        address: str,
        pieces: Sequence[Body],
        size: int,
        due: float,
        limit: str,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop=loop)
        self.address = address
        self.pieces: Sequence[Body] = pieces
        """The request, until it is over: it may have to be sent again."""
        self.size = size
        self.due = due
        """When the plane's own limit is over."""
        self.limit = limit

    def cancel(self, msg: Any = None) -> bool:
        if self.done():
            return False
        self.let_go()
        return super().cancel(msg)

    def let_go(self) -> None:
        """It is over: free the frame and the timer, and leave the queue."""
        self.pieces = ()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.lane is not None:
            self.lane.leave(self)
            self.lane = None

    def fail(self, error: RequestError) -> None:
        if not self.done():
            self.let_go()
            self.set_exception(error)

    def expire(self) -> None:
        """The time is up."""
        if self.lane is None:
            why = f"no ack from {self.address} {self.limit}"
            self.fail(DeliveryUnknown("timed_out", why, transport="tcp", address=self.address))
        else:
            self.unreachable(f"{self.lane.lacks} {self.limit}")

    def unreachable(self, why: str) -> None:
        """It was surely not accepted."""
        self.fail(CannotConnect(why, transport="tcp", address=self.address))

    def lost(self, why: str) -> None:
        """The connection is gone, and there is no answer."""
        self.fail(DeliveryUnknown("connection_lost", why, transport="tcp", address=self.address))
