"""Frontends and workers of one case, and the streams between them.

Each has a transport on a host of its own, as in a process of its own; those of `outside_worker` and
`outside_frontend` are in one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reqplane.errors import ReqplaneError
from reqplane.interfaces import HomeStream, PendingStream, ResponseTransport
from reqplane.model import Annotated, Broken, ConnectionInfo, Control, End, Part, Prologue
from reqplane.wire.request import HeadTemplate, decode_head

from reqplane_conformance.host import SuiteHost
from reqplane_conformance.leftovers import sockets
from reqplane_conformance.response.parts import is_last, shown, shown_one
from reqplane_conformance.stage import Stage, at_one_port
from reqplane_conformance.verdict import Nonconformance, check, fail

WINDOW = 64 * 1024
"""The window of cases that fill one."""


@dataclass(eq=False)
class Process:
    """A transport, opened as in a process of its own."""

    transport: ResponseTransport
    host: SuiteHost


@dataclass(eq=False)
class Call:
    """Both ends of one stream, and what the worker was told."""

    stage: ResponseStage
    pending: PendingStream
    home: HomeStream
    told: list[Control] = field(default_factory=list[Control])

    async def answer(self, *items: bytes) -> None:
        """A handler's whole answer, at the pace of its reader."""
        self.home.prologue(None)
        await self.write(*items)
        self.home.end()

    async def write(self, *items: bytes) -> None:
        for item in items:
            if not self.home.write(item):
                await self.home.ready()

    async def rest(self, what: str = "the rest of the answer", within: float = 10.0) -> list[Part]:
        """All parts up to the last one."""
        return await self.stage.rest(self.pending, what, within)

    async def until_told(self, what: str, within: float = 5.0) -> None:
        await self.stage.until(lambda: self.told, what, within)


def info_from(info: ConnectionInfo) -> ConnectionInfo:
    """As a worker gets it: by the head of a request."""
    head = HeadTemplate("conformance.backend.generate", "json", info).render(info)
    return decode_head(head).connection


class ResponseStage(Stage):
    """Opens frontends and workers; `suite` has the hooks."""

    leftover_case = "life.nothing_left_over"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._elsewhere: list[Control] = []
        """What was told in a thread that is not the loop's."""

    async def aclose(self) -> None:
        await super().aclose()
        check(
            not self._elsewhere,
            did=f"control was called with {self._elsewhere[:1]} in another thread than the event loop's",
            wanted="control is called on the loop",
            look="loop.call_soon_threadsafe, where a thread of yours learns of it",
            blame="control.stop",
        )

    # ── who takes part ──

    async def frontend(self, env: Mapping[str, str] | None = None, /, **limits: Any) -> Process:
        """A process that listens for answers."""
        process = await self.process(env, **limits)
        await process.transport.listen()
        return process

    async def process(self, env: Mapping[str, str] | None = None, /, **limits: Any) -> Process:
        """A process that does nothing yet, a worker perhaps."""
        return Process(*await self.open(env, **limits))

    async def pair(self, **limits: Any) -> tuple[Process, Process]:
        """A frontend and a worker."""
        return await self.frontend(**limits), await self.process(**limits)

    async def outside_worker(self, **limits: float) -> Any:
        """A worker that can be killed and frozen: see `hooks.ResponseSuite.outside_worker`."""
        worker = await self.suite.outside_worker(self, **limits)
        self.push(worker.aclose)
        return worker

    async def outside_frontend(self, env: Mapping[str, str] | None = None, /, **limits: float) -> Any:
        """Likewise a frontend."""
        frontend = await self.suite.outside_frontend(self, env or {}, **limits)
        self.push(frontend.aclose)
        return frontend

    def one_port(self) -> dict[str, str]:
        """Variables for a frontend that comes back at the address where it was; {} where there is no port."""
        return at_one_port(getattr(self.subject, "loopback", {}), self.env)

    def sockets(self) -> int:
        """How many this process has open."""
        return len(sockets())

    # ── streams ──

    async def call(self, frontend: Process, worker: Process, *, sends: bool = False, look: str = "") -> Call:
        """One attempt, up to the call home."""
        pending = frontend.transport.expect("conformance", sends=sends)
        call = await self.home(worker, pending)
        await self.soon(
            _settled(pending), "`opened` done", look or "what the frontend does when a worker calls home"
        )
        return call

    async def home(self, worker: Process, pending: PendingStream) -> Call:
        """Let a worker call home for this stream."""
        told: list[Control] = []
        home = await self.call_home(worker, pending.info, told)
        return Call(self, pending, home, told)

    async def call_home(self, worker: Process, info: ConnectionInfo, told: list[Control]) -> HomeStream:
        """As the core does, with what has travelled in a request's head."""
        thread = threading.get_ident()

        def control(what: Control) -> None:
            told.append(what)
            if threading.get_ident() != thread:
                self._elsewhere.append(what)

        calling = worker.transport.call_home(info_from(info), control)
        look = "`call_home`: whom does it try to reach, and what does it wait for?"
        try:
            return await self.soon(calling, "call_home done", look, 10.0)
        except ReqplaneError as error:
            did = f"call_home raised {type(error).__name__}: {error}"
            raise Nonconformance(did, "a stream to a frontend that listens", look) from error

    async def rest(self, pending: PendingStream, what: str, within: float = 10.0) -> list[Part]:
        """All parts up to the last one, each of a known kind, and in an order that makes sense."""
        parts: list[Part] = []
        deadline = time.monotonic() + within * self.patience
        while not parts or not is_last(parts[-1]):
            left = deadline - time.monotonic()
            try:
                batch = await asyncio.wait_for(pending.receive(), max(left, 0.0))
            except TimeoutError:
                fail(
                    f"{what} did not come within {within:g} s; so far came {shown(parts)}",
                    "all that was written arrives, and then End, or Broken where the answer is not whole",
                    "what wakes `receive` up when something has come, and when the stream is over",
                )
            self._check_batch(batch, parts)
            parts += batch
        return parts

    def _check_batch(self, batch: list[Any], before: list[Part]) -> None:
        look = "`receive`, and what puts parts into its list"
        check(
            batch, did="receive returned an empty list", wanted="it waits until there is something", look=look
        )
        for place, part in enumerate(batch):
            check(
                isinstance(part, bytes | bytearray | Prologue | Annotated | End | Broken),
                did=f"receive gave a {type(part).__name__}: {part!r:.80}",
                wanted="bytes or a bytearray for a plain item, else Prologue, Annotated, End or Broken",
                look=look,
            )
            check(
                not is_last(part) or place == len(batch) - 1,
                did=f"after {shown_one(part)} came {shown(batch[place + 1 :])}",
                wanted="nothing comes after the last part",
                look=look,
                blame="answers.nothing_after_the_end",
            )
            started = isinstance(part, Prologue) and any(isinstance(one, Prologue) for one in before)
            check(not started, did="a second Prologue came", wanted="one, before the items", look=look)

    # ── waiting ──

    async def soon(self, work: Any, what: str, look: str, within: float = 5.0) -> Any:
        """Await something that must not take long."""
        limit = asyncio.timeout(within * self.patience)
        try:
            async with limit:
                return await work
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise Nonconformance(f"{what}: not within {within:g} s", f"{what} soon", look) from error

    async def until(self, condition: Callable[[], object], what: str, within: float = 5.0) -> None:
        """Wait until it holds; Nonconformance that says `what` did not come."""
        deadline = time.monotonic() + within * self.patience
        while not condition():
            check(time.monotonic() < deadline, did=f"{what} did not come within {within:g} s", wanted=what)
            await asyncio.sleep(0.005)

    async def quiet(self, what: Callable[[], object], seconds: float = 0.2) -> object:
        """Wait until this has been the same for so long, and return it.

        For "nothing more happens": on a slow machine it may be told too early, which a right subject can't
        fail by.
        """
        value, since = what(), time.monotonic()
        while time.monotonic() < since + seconds * self.patience:
            await asyncio.sleep(0.01)
            if (now := what()) != value:
                value, since = now, time.monotonic()
        return value


async def _settled(pending: PendingStream) -> None:
    """`opened` is done; not awaited itself, since giving up would cancel it."""
    await asyncio.wait([pending.opened])
