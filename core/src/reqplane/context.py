"""One call's context: its id, its headers, its deadline, and whether it should stop.

A handler gets one, and may pass it on (`client.generate(request, context=context)`): the call that it makes
then carries the same id, headers and metadata, ends by the same deadline, and stops when this one does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping

from reqplane.model import NEVER, Control, Headers
from reqplane.wire.trace import CARRIED, INSTANCE, carried

_NO_HEADERS: Headers = {}
_NO_METADATA: Mapping[str, str] = {}


class RequestIds:
    """Request ids in the form of a uuid (version 4): random digits drawn once, then a count that starts at
    random too."""

    __slots__ = ("_count", "_prefix")

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """In a forked child, whose ids would be its parent's."""
        digits = os.urandom(16).hex()
        self._prefix = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-"
        self._count = int(digits[20:], 16)

    def draw(self) -> str:
        self._count = self._count + 1 & 0xFFFF_FFFF_FFFF
        return f"{self._prefix}{self._count:012x}"


def _checked(headers: Headers) -> Headers:
    """The headers as they travel; ValueError if one of them would be lost on the way."""
    travelling = carried(headers)
    lost = [name for name in headers if name.lower() not in travelling or name.lower() == INSTANCE]
    if lost:
        raise ValueError(
            f"the headers {', '.join(lost)} can't travel with a request: wanted {', '.join(CARRIED)}, "
            f"each at most 1 KiB of visible ASCII"
        )
    return travelling


_ids = RequestIds()  # one for each process: ids never meet, whichever runtime draws them
os.register_at_fork(after_in_child=_ids.start_anew)


class Context:
    """What belongs to one call, on either side.

    `headers` may be those of reqplane.wire.trace.CARRIED, in any case; ValueError for others, since they
    would not arrive.  `metadata` may have any names, its values are texts; it travels in the request's head.
    """

    __slots__ = ("_followers", "_killed", "_stopped", "_waiters", "deadline", "headers", "id", "metadata")

    def __init__(
        self,
        id: str | None = None,
        *,
        headers: Headers | None = None,
        deadline: float = NEVER,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.id = _ids.draw() if id is None else id
        """The request's id, the same in every process that the request reaches."""
        self.headers: Headers = _checked(headers) if headers else _NO_HEADERS
        """Trace and id headers (reqplane.wire.trace.CARRIED), names in lower case."""
        self.metadata = _NO_METADATA if metadata is None else metadata
        """What the application hands on beside the request, from one process to the next."""
        self.deadline = deadline
        """On the event loop's clock; `model.NEVER` if there is none."""
        self._stopped = False
        self._killed = False
        self._waiters: list[asyncio.Future[None]] | None = None
        self._followers: list[Callable[[Control], None]] | None = None

    def is_stopped(self) -> bool:
        """Whether somebody asked this call to finish, politely or not."""
        return self._stopped

    def is_killed(self) -> bool:
        """Whether nobody reads the answer any more."""
        return self._killed

    def stop_generating(self) -> None:
        """Ask the call to finish early; what it has produced by then still counts."""
        self._tell(Control.STOP)

    def kill(self) -> None:
        """Ask the call to give up."""
        self._tell(Control.KILL)

    async def stopped(self) -> None:
        """Wait until the call is asked to finish."""
        if self._stopped:
            return
        waiter = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if self._waiters and waiter in self._waiters:
                self._waiters.remove(waiter)

    def follow(self, tell: Callable[[Control], None]) -> None:
        """Call `tell` when the call is asked to stop; at once if it was already."""
        if self._stopped:
            tell(Control.KILL if self._killed else Control.STOP)
        if self._followers is None:
            self._followers = []
        self._followers.append(tell)

    def unfollow(self, tell: Callable[[Control], None]) -> None:
        """Undo `follow`; harmless if it was undone already."""
        if self._followers and tell in self._followers:
            self._followers.remove(tell)

    def _tell(self, control: Control) -> None:
        if self._killed or (self._stopped and control is Control.STOP):
            return
        self._stopped = True
        self._killed = control is not Control.STOP
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        for tell in list(self._followers or ()):
            tell(control)
