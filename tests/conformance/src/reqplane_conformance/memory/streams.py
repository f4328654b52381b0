"""The two ends of a stream in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reqplane.errors import FrameTooLarge
from reqplane.interfaces import HomeStream, PendingStream
from reqplane.model import Annotated, Body, Broken, ConnectionInfo, Control, End, Part, Prologue

from reqplane_conformance.memory.flow import Credit, Inbox
from reqplane_conformance.memory.lines import Side


class MemoryPending(PendingStream):
    """The frontend's end: one attempt's answer."""

    def __init__(self, info: ConnectionInfo, forget: Callable[[], object]) -> None:
        assert info.shared is not None
        self.info = info
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.enveloped = False
        self.inbox = Inbox(lambda size: self.tell(lambda home: home.credit.give(size)))
        self.credit = Credit(info.shared.window)
        self._largest = info.shared.max_frame or 0
        self._sends = info.request is not None
        self._forget = forget
        self._number = 0
        self._side: Side | None = None
        self._early: list[Callable[[MemoryHome], None]] = []

    def open(self, side: Side, number: int) -> None:
        """The worker has called home; it is told all that was to tell before that."""
        self._side, self._number = side, number
        for act in self._early:
            self.tell(act)
        if not self.opened.done():
            self.opened.set_result(None)

    def tell(self, act: Callable[[MemoryHome], None]) -> None:
        """Let the worker's end do this, now or when it calls home."""
        if self._side is None:
            self._early.append(act)
        else:
            self._side.tell_stream(self._number, act)

    async def receive(self) -> list[Part]:
        return await self.inbox.receive()

    def stop(self) -> None:
        if not self.inbox.over:
            self.credit.end()
            self.tell(lambda home: home.told(Control.STOP))

    def kill(self) -> None:
        if not self.inbox.over:
            self.tell(lambda home: home.told(Control.KILL))
            self.lost("it was killed here")

    def close(self) -> None:
        self.kill()
        self.opened.cancel()

    def lost(self, reason: str) -> None:
        """No more comes, and nothing more goes out."""
        self.ended(Broken(reason))

    def ended(self, part: Part) -> None:
        """By this last part."""
        self.inbox.event(part)
        self.credit.end()
        if self._side is None:
            self._forget()
        else:
            self._side.streams.pop(self._number, None)

    # ── a request that is a stream ──

    def write(self, item: Body) -> bool:
        if not self._sends:
            return super().write(item)
        if len(item) > self._largest:
            raise FrameTooLarge(len(item), self._largest, "DYN_MAX_FRAME_BYTES sets the limit")
        if self.credit.over:
            return False
        body = bytes(item)
        self.tell(lambda home: home.inbox.item(body, len(body)))
        return self.credit.spend(len(body))

    async def ready(self) -> bool:
        if not self._sends:
            return await super().ready()
        return await self.credit.ready()

    def end(self) -> None:
        if not self._sends:
            super().end()
        if not self.credit.over:
            self.credit.end()
            self.tell(lambda home: home.inbox.event(End()))


class MemoryHome(HomeStream):
    """The worker's end: what a handler writes to."""

    def __init__(
        self,
        side: Side,
        number: int,
        window: int,
        largest: int,
        control: Callable[[Control], None],
        streamed: bool,
    ) -> None:
        self.enveloped = False
        self._streamed = streamed
        self.credit = Credit(window)
        self.inbox = Inbox(lambda size: self.tell(lambda pending: pending.credit.give(size)))
        self._side, self._number, self._largest, self._control = side, number, largest, control

    def tell(self, act: Callable[[MemoryPending], None]) -> None:
        """Let the frontend's end do this."""
        self._side.tell_stream(self._number, act)

    def prologue(self, error: str | None) -> None:
        if self.credit.over:
            return
        if error is None:
            self.tell(lambda pending: pending.inbox.event(Prologue()))
        else:  # an empty text would look as if all were well
            self._end_by(Prologue(error or "the handler could not be started"))

    def write(self, body: bytes, annotated: bool = False) -> bool:
        if len(body) > self._largest:
            raise FrameTooLarge(len(body), self._largest, "DYN_MAX_FRAME_BYTES sets the limit")
        if self.credit.over:
            return True
        part = Annotated(body) if annotated else body
        self.tell(lambda pending: pending.inbox.item(part, len(body)))
        return self.credit.spend(len(body))

    async def ready(self) -> None:
        await self.credit.ready()

    def end(self, body: bytes = b"") -> None:
        if self.credit.over:
            return
        self._end_by(End(body))
        if body:
            self._side.tell(lambda there: there.owner.reported(there, body))  # type: ignore[attr-defined]

    def abort(self) -> None:
        if not self.credit.over:
            self.tell(lambda pending: pending.lost("the worker gave the stream up"))
            self._finish()

    def _end_by(self, part: Prologue | End) -> None:
        self.tell(lambda pending: pending.ended(part))
        self._finish()

    def _finish(self) -> None:
        self.credit.end()
        self.inbox.break_off("the answer has ended")
        self._side.streams.pop(self._number, None)

    async def receive(self) -> list[Part]:
        if not self._streamed:
            return await super().receive()
        return await self.inbox.receive()

    # ── what the frontend says ──

    def told(self, control: Control) -> None:
        """STOP leaves the stream open; after KILL and GONE nothing that is written goes anywhere."""
        if control is not Control.STOP:
            self._finish()
        self.inbox.break_off("the frontend wants the answer to finish early")
        try:
            self._control(control)
        except Exception:
            self._side.owner.host.log.exception("telling a handler %s failed", control.name)

    def lost(self, reason: str) -> None:
        self.told(Control.GONE)
