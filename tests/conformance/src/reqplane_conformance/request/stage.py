"""Frontends and workers of one case.

A worker here keeps what it accepts and does what the case tells it.  Each frontend and each worker has a
transport on a host of its own, as in a process of its own; those of `outside` are in one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reqplane.errors import DeliveryUnknown, NotDelivered, RequestRefused
from reqplane.interfaces import Delivery, Listener, RequestTransport
from reqplane.model import NEVER, Body, EndpointId, Headers, Instance, Served
from reqplane.wire.frame import Frame
from reqplane.wire.records import encode_record, guide_key, make_record, parse_record

from reqplane_conformance.host import SuiteHost
from reqplane_conformance.request.copies import bytes_of, texts_of
from reqplane_conformance.stage import Stage, at_one_port
from reqplane_conformance.verdict import Nonconformance, check

OURS = (NotDelivered, RequestRefused, DeliveryUnknown)
"""All that `send` may raise."""
ONLY_OURS = "failure.only_our_errors"

_numbers = itertools.count(1)


@dataclass
class Got:
    """One frame that was accepted."""

    frame: bytes
    headers: dict[str, str]
    at: float
    """time.monotonic() of the accept's end."""


@dataclass(eq=False)
class Worker:
    """One endpoint that is served, and what arrived there."""

    transport: RequestTransport[Any]
    host: SuiteHost
    endpoint: EndpointId
    instance_id: int
    incarnation: int
    env: Mapping[str, str]
    got: list[Got] = field(default_factory=list[Got])
    refuse: BaseException | None = None
    """What accept raises instead."""
    on_accept: Callable[[Delivery], None] | None = None
    """Called with each frame that is accepted."""
    takes: float = 0.0
    """Seconds that accept blocks."""
    offered: int = 0
    """How often accept was called."""
    listener: Listener = field(init=False)

    def accept(self, delivery: Delivery) -> None:
        """As the core's: looks at the frame, schedules the handler, returns."""
        self.offered += 1
        if self.takes:
            time.sleep(self.takes)
        if self.refuse is not None:
            raise self.refuse
        got = Got(bytes_of(delivery.frame), texts_of(delivery.headers), time.monotonic())
        self.got.append(got)
        if self.on_accept is not None:
            self.on_accept(delivery)

    @property
    def frames(self) -> list[bytes]:
        return [got.frame for got in self.got]

    @property
    def instance(self) -> Instance:
        """What discovery tells of it: its record, after a way through JSON."""
        return instance_of(
            self.transport.name, self.endpoint, self.incarnation, self.instance_id, self.record
        )

    @property
    def record(self) -> Mapping[str, Any]:
        return self.listener.record(self.instance_id)


def instance_of(
    plane: str, endpoint: EndpointId, incarnation: int, instance_id: int, part: Mapping[str, Any]
) -> Instance:
    """The Instance that a record with this plane's part becomes, as frontends see it."""
    record = make_record(endpoint, instance_id, incarnation, part, "json", [plane])
    return parse_record(guide_key(endpoint, instance_id), encode_record(record))


class Frontend:
    """Sends, and sees to it that nothing but our errors comes out."""

    def __init__(self, stage: RequestStage, transport: RequestTransport[Any], host: SuiteHost) -> None:
        self._stage, self.transport, self.host = stage, transport, host
        self._targets: dict[Any, Any] = {}

    def fitting(self, size: int) -> int:
        """So many bytes, or what a body may have where the transport carries less."""
        return min(size, self.transport.max_frame_bytes - 1024)

    def target(self, worker: Any) -> Any:
        """How this frontend reaches a worker; made once, as the core does."""
        found = self._targets.get(worker)
        if found is None:
            found = self._targets[worker] = self.transport.target(worker.instance)
            check(
                found is not None,
                did=f"target() gave None for its own listener's record, {json.dumps(dict(worker.record))}",
                wanted="target() understands every record that this transport's listeners write",
                look="`target` and `Listener.record`: do both use the same member of the record?",
                blame="delivery.record_survives_json",
            )
        return found

    async def send(
        self,
        worker: Any,
        frame: Frame | None = None,
        headers: Headers | None = None,
        *,
        within: float | None = 10.0,
    ) -> None:
        """Send one frame; `within` are the seconds until the deadline, None = no deadline.

        Raises what `send` may raise; Nonconformance for anything else.
        """
        __tracebackhide__ = True
        target = self.target(worker)
        loop = asyncio.get_running_loop()
        deadline = NEVER if within is None else loop.time() + within * self._stage.patience
        try:
            await self.transport.send(target, frame or self._stage.frame(), headers or {}, deadline)
        except OURS:
            raise
        except Exception as error:
            raise Nonconformance(
                f"send raised {type(error).__name__}: {error}",
                "only CannotConnect, FrameTooLarge, RequestRefused or DeliveryUnknown come out of send",
                "the one place in `send` where your library's errors are turned into ours",
                blame=ONLY_OURS,
            ) from error

    async def deliver(
        self,
        worker: Any,
        frame: Frame | None = None,
        headers: Headers | None = None,
        *,
        within: float | None = 10.0,
        when: str = "where a worker listens and accepts",
        look: str = "",
    ) -> Frame:
        """Send what has to arrive, and return it; `when` completes "a frame is acknowledged …"."""
        __tracebackhide__ = True
        frame = frame or self._stage.frame()
        sent = Frame(frame.header, frame.body)  # so that nobody changes the one to compare with
        try:
            await self.send(worker, sent, headers, within=within)
        except OURS as error:
            shown = f"send raised {type(error).__name__} for a frame of {len(frame)} bytes: {error}"
            raise Nonconformance(shown, f"a frame is acknowledged {when}", look) from error
        return frame


class RequestStage(Stage):
    """Opens frontends and workers; `suite` has the hooks."""

    leftover_case = "life.nothing_left_over"

    def frame(self, body: Body = b"hello", **header: Any) -> Frame:
        """A frame with a head of its own, so that each can be told from the others."""
        head = {"id": f"conformance-{next(_numbers)}", **header}
        return Frame(json.dumps(head).encode(), body)

    async def frontend(self, env: Mapping[str, str] | None = None, **limits: Any) -> Frontend:
        transport, host = await self.open(env, **limits)
        return Frontend(self, transport, host)

    async def worker(
        self,
        endpoint: str = "conformance.backend.generate",
        *,
        env: Mapping[str, str] | None = None,
        beside: Worker | None = None,
        instance_id: int = 0,
        **limits: Any,
    ) -> Worker:
        """A worker that serves `endpoint`; `beside` another one: in the same process."""
        if beside is None:
            transport, host = await self.open(env, **limits)
        else:
            transport, host = beside.transport, beside.host
        path = EndpointId.parse(endpoint)
        worker = Worker(transport, host, path, instance_id, host.incarnation, dict(env or {}))
        await self.listen(worker)
        return worker

    async def listen(self, worker: Worker) -> None:
        """Let it serve, again perhaps."""
        served = Served(worker.endpoint, worker.incarnation, worker.instance_id, "127.0.0.1:9")
        worker.listener = await worker.transport.listen(served, worker.accept)

    async def outside(self, **env: str) -> Any:
        """A worker that can be killed and frozen: see `hooks.RequestSuite.outside_worker`."""
        worker = await self.suite.outside_worker(self, **env)
        self.push(worker.aclose)
        return worker

    def one_port(self) -> dict[str, str]:
        """Variables for a worker that comes back at the address where it was; {} where there is no port."""
        return at_one_port(getattr(self.subject, "loopback", {}), self.env)

    async def until(self, condition: Callable[[], object], what: str, within: float = 5.0) -> None:
        """Wait until it holds; Nonconformance that says `what` did not come."""
        deadline = time.monotonic() + within * self.patience
        while not condition():
            check(time.monotonic() < deadline, did=f"{what} did not come within {within:g} s", wanted=what)
            await asyncio.sleep(0.005)
