"""Wrong in how workers call home."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from reqplane.errors import CannotConnect
from reqplane.interfaces import HomeStream, PendingStream
from reqplane.model import ConnectionInfo, Control
from reqplane_conformance.memory.responses import MemoryResponses
from reqplane_conformance.memory.streams import MemoryPending

from wrong_responses.table import wrong


class _HastyPending(MemoryPending):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.opened.set_result(None)


@wrong("calls.opened", "control.close_wakes_the_reader", "control.late_call")
class IsOpenAtOnce(MemoryResponses):
    """Says that the worker has called home before it has."""

    pending_class = _HastyPending


@wrong("calls.subjects_are_secrets")
class CountsItsSubjects(MemoryResponses):
    """Draws subjects that can be guessed."""

    def expect(self, request_id: str, *, sends: bool = False) -> PendingStream:
        pending = super().expect(request_id, sends=sends)
        assert isinstance(pending, MemoryPending)
        del self._expected[pending.info.subject]
        subject = str(uuid.uuid1())
        pending.info = replace(pending.info, subject=subject)
        pending._forget = lambda: self._expected.pop(subject, None)
        self._expected[subject] = pending
        return pending


@wrong("calls.nobody_there", "calls.nonsense_for_an_address", "life.call_after_close")
class RaisesWhatItGets(MemoryResponses):
    """Lets the errors of its library out."""

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeStream:
        try:
            return await super().call_home(info, control)
        except CannotConnect as error:
            raise ConnectionRefusedError(111, "Connection refused") from error


@wrong("calls.cancelled_call")
class SpoilsTheCallsOfOthers(MemoryResponses):
    """Lets one caller connect for all, who fail with it."""

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeStream:
        if not hasattr(self, "_first"):
            self._first = asyncio.ensure_future(asyncio.sleep(0.02))
        if not self._first.done():
            try:
                await self._first
            except asyncio.CancelledError as error:
                raise CannotConnect("the connection was given up", address=info.address) from error
        return await super().call_home(info, control)


@wrong("sharing.one_connection")
class ConnectsForEach(MemoryResponses):
    """Opens a socket for each of the callers that come at the same time."""

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeStream:
        if not self._lines:
            self._sockets = [*getattr(self, "_sockets", []), socket.socket()]
        await asyncio.sleep(0)
        return await super().call_home(info, control)

    async def aclose(self) -> None:
        for one in getattr(self, "_sockets", []):
            one.close()
        await super().aclose()
