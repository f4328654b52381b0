"""A response transport in memory: answers go from one runtime of an event loop to another.

A double for unit tests of what reads or writes a stream:

    pending = frontend.expect("a request's id")
    home = await worker.call_home(pending.info, told.append)
    home.prologue(None)
    home.write(b"item")
    worker.vanish()  # now `pending.receive()` gives Prologue and the item, or less, and then Broken

where both are made with `await MemoryResponses.open(host)`, and the frontend has done `await listen()`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from reqplane.errors import CannotConnect, WireError
from reqplane.interfaces import HomeStream, Host, PendingStream, ResponseTransport
from reqplane.model import ConnectionInfo, Control, Load, ResponseCapabilities, SharedOffer
from reqplane.settings import load, port, setting, settings_class
from reqplane.wire.shared import read_load

from reqplane_conformance.memory.lines import Side, leave, listen, listening
from reqplane_conformance.memory.network import network
from reqplane_conformance.memory.streams import MemoryHome, MemoryPending


@settings_class
class MemoryStreamSettings:
    """What the memory response plane reads."""

    port: int = setting("MEMORY_STREAM_PORT", default=0, parse=port)


class MemoryResponses(ResponseTransport):
    """Joins the two ends of each stream by its subject.

    For tests: `frozen` while it neither hears nor says anything, `vanish` as by `kill -9`, and a
    `network().delay` for what goes from one to another.
    """

    name: ClassVar[str] = "memory_stream"
    capabilities = ResponseCapabilities(
        shared_connection=True, credit=True, heartbeats=True, reports=True, streamed_requests=True
    )
    settings: ClassVar[type[Any] | None] = MemoryStreamSettings
    loopback: ClassVar[Mapping[str, str]] = {"MEMORY_STREAM_PORT": "0"}
    pending_class: ClassVar[type[MemoryPending]] = MemoryPending
    home_class: ClassVar[type[MemoryHome]] = MemoryHome

    def __init__(self, host: Host, settings: MemoryStreamSettings) -> None:
        limits = host.limits
        self.host = host
        self.advertised = ""
        self.frozen = False
        self.missed: list[Callable[[], None]] = []
        self._settings = settings
        self._offer = SharedOffer(host.process, limits.stream_window_bytes, max_frame=limits.max_frame_bytes)
        self._expected: dict[str, MemoryPending] = {}
        self._lines: dict[tuple[str, str], Side] = {}
        """This process's ends of the lines on which it calls home, by the frontend's address and process."""
        self._callers: dict[Side, int] = {}
        """Its ends of those on which others call, with the incarnation of each."""
        self._closed = False

    @classmethod
    async def open(cls, host: Host) -> Self:
        return cls(host, load(MemoryStreamSettings, host.env))

    # ── frontend ──

    async def listen(self) -> None:
        if not self.advertised:
            self.advertised = listen(self._settings.port, self)

    def expect(self, request_id: str, *, sends: bool = False) -> PendingStream:
        request = ConnectionInfo(self.advertised, str(uuid.uuid4()), request_id) if sends else None
        info = ConnectionInfo(self.advertised, str(uuid.uuid4()), request_id, self._offer, request)
        pending = self._expected[info.subject] = self.pending_class(
            info, lambda: self._expected.pop(info.subject, None)
        )
        return pending

    def called(self, incarnation: int) -> Side:
        """Its end of a new line, on which a worker will call home."""
        side = Side(self, self._left)
        self._callers[side] = incarnation
        return side

    def _left(self, side: Side) -> None:
        self._callers.pop(side, None)

    def claim(self, side: Side, number: int, subject: str) -> None:
        """A worker has called home for this subject, which is good for one stream."""
        pending = self._expected.pop(subject, None)
        if pending is None:
            side.tell_stream(number, lambda home: home.told(Control.KILL))
        else:
            side.streams[number] = pending
            pending.open(side, number)

    def reported(self, side: Side, report: bytes) -> None:
        """A worker tells its load."""
        try:
            self.host.reported(self._callers[side], read_load(report))
        except (WireError, KeyError) as error:
            self.host.log.warning("a load report is left out: %s", error)

    # ── worker ──

    async def call_home(self, info: ConnectionInfo, control: Callable[[Control], None]) -> HomeStream:
        offer = info.shared
        if offer is None or self._closed:
            raise self._cannot(info, "this process is leaving" if offer else "the frontend offers no line")
        key = (info.address, offer.process)
        if key not in self._lines:
            await asyncio.sleep(2 * network().delay)
            if key not in self._lines:  # others may have made it in the meantime
                self._lines[key] = self._connect(info, offer)
        return self.open_stream(self._lines[key], info, offer, control)

    def _connect(self, info: ConnectionInfo, offer: SharedOffer) -> Side:
        frontend = listening(info.address)
        if frontend is None or self._closed:
            raise self._cannot(info, "this process is leaving" if self._closed else "nobody listens there")
        if frontend.host.process != offer.process:
            raise self._cannot(info, "another frontend listens there; it may have been restarted")
        side = Side(self, lambda side: self._hung_up((info.address, offer.process), side))
        side.join(frontend.called(self.host.incarnation))
        return side

    def _hung_up(self, key: tuple[str, str], side: Side) -> None:
        if self._lines.get(key) is side:
            del self._lines[key]

    def open_stream(
        self, side: Side, info: ConnectionInfo, offer: SharedOffer, control: Callable[[Control], None]
    ) -> MemoryHome:
        """One more stream on a line."""
        side.last += 1
        number = side.last
        ours = self.host.limits.max_frame_bytes
        largest = ours if offer.max_frame is None else min(ours, offer.max_frame)
        streamed = info.request is not None
        home = side.streams[number] = self.home_class(side, number, offer.window, largest, control, streamed)
        side.tell(lambda there: there.owner.claim(there, number, info.subject))  # type: ignore[attr-defined]
        return home

    def _cannot(self, info: ConnectionInfo, why: str) -> CannotConnect:
        return CannotConnect(why, address=info.address, transport=self.name)

    def report(self, load: Load) -> None:
        for side in self._lines.values():
            side.tell(lambda there: there.owner.host.reported(self.host.incarnation, load))

    # ── its end ──

    async def aclose(self) -> None:
        self._stop_listening()
        for side in [*self._lines.values(), *self._callers]:
            side.close("the other process is leaving")

    def vanish(self) -> None:
        """As by `kill -9`: nobody is told anything, and what is under way is lost."""
        self._stop_listening()
        for side in [*self._lines.values(), *self._callers]:
            side.cut("the connection was lost")

    def thaw(self) -> None:
        """After `frozen`: hear all that has come."""
        self.frozen = False
        missed, self.missed = self.missed, []
        for act in missed:
            act()

    def _stop_listening(self) -> None:
        self._closed = True
        leave(self.advertised, self)
        for pending in list(self._expected.values()):
            pending.close()
