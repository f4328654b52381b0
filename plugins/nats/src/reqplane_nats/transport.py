"""The nats plane: a frame is a NATS request, the empty reply its ack, which comes before the handler runs."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Self

from reqplane.interfaces import Accept, Host, Listener, RequestTransport
from reqplane.model import Capabilities, Diagnosis, Headers, Instance, Served
from reqplane.settings import load
from reqplane.wire.frame import Frame

from reqplane_nats.asking import Asking
from reqplane_nats.link import Link
from reqplane_nats.listener import Services
from reqplane_nats.login import prepare
from reqplane_nats.settings import NatsSettings
from reqplane_nats.target import Target, subject_in

_OPEN_PATIENCE = 3.0
"""Seconds that a start waits for the server; then it goes on without."""


class NatsTransport(RequestTransport[Target]):
    """Sends and listens by one connection."""

    name: ClassVar[str] = "nats"
    capabilities: ClassVar[Capabilities] = Capabilities(
        headers=True, refusals=True, notices_dead_worker=True, reconnects=True
    )
    settings: ClassVar[type[Any] | None] = NatsSettings

    def __init__(self, host: Host, settings: NatsSettings) -> None:
        self._limits = host.limits
        self._link = Link(host, settings, prepare(settings))
        self._asking = Asking(host, self._link, settings.request_timeout)
        self._services = Services(self._link)
        self._send = self._asking.send

    @classmethod
    async def open(cls, host: Host) -> Self:
        transport = cls(host, load(NatsSettings, host.env))
        try:
            await transport._link.start(_OPEN_PATIENCE)
        except BaseException:
            await transport.aclose()
            raise
        return transport

    @property
    def max_frame_bytes(self) -> int:
        return self._asking.most

    def target(self, instance: Instance) -> Target | None:
        subject = subject_in(instance.transport)
        return None if subject is None else Target(subject, self._asking.inbox)

    def send(self, target: Target, frame: Frame, headers: Headers, deadline: float) -> asyncio.Future[None]:
        """A plain function that returns a future: no task for a request."""
        return self._send(target, frame, headers, deadline)

    async def listen(self, served: Served, accept: Accept) -> Listener:
        return await self._services.listen(served, accept)

    async def diagnose(self) -> list[Diagnosis]:
        link = self._link
        if link.wire is None:
            remedy = "start it (`nats-server`), or set NATS_SERVER to where it is"
            what = f"no NATS server can be reached at {link.where}: {link.problem}"
            return [Diagnosis("WRONG", what, remedy)]
        found = [
            Diagnosis("ok", f"the NATS server {link.address} answers, its max_payload is {link.max_payload}")
        ]
        if self.max_frame_bytes < self._limits.max_frame_bytes:
            found.append(Diagnosis("note", self._smaller()))
        return found

    def _smaller(self) -> str:
        return (
            f"requests above {self.max_frame_bytes} bytes are refused on nats, less than DYN_MAX_FRAME_BYTES "
            f"({self._limits.max_frame_bytes}) allows: raise max_payload in the NATS server's configuration"
        )

    async def aclose(self) -> None:
        await self._link.aclose()
        self._asking.close()
