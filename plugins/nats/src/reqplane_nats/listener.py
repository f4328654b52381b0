"""What this process serves, by NATS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reqplane.errors import SettingsError
from reqplane.interfaces import Accept, Listener
from reqplane.model import Served

from reqplane_nats.link import Link, Subscription
from reqplane_nats.service import QUEUE, Service, Subject
from reqplane_nats.target import service_name, subject_of

_FLUSH_LIMIT = 2.0
"""Seconds that the server may take to confirm what was written."""
_PATIENCE = 30.0
"""Seconds that a worker waits for a NATS server when it starts …"""
_TELL_EVERY = 5.0
"""… and between two warnings meanwhile."""


class Services:
    """The micro services of this process."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._services: dict[str, Service] = {}

    async def listen(self, served: Served, accept: Accept) -> PushEndpoint:
        """Serve one more endpoint; when it returns the server knows of it.

        Without a server, and where another plane serves it too, it is known as soon as there is one.
        """
        if served.alone:
            await self._link.connected(_PATIENCE, _TELL_EVERY)
        name = service_name(served.endpoint)
        service = self._services.get(name)
        if service is None:
            service = self._services[name] = Service(name, self._link)
        where = subject_of(served.endpoint, served.incarnation)
        subject = service.subjects.get(where)
        if subject is None:
            subject = service.subjects[where] = Subject(served.endpoint, served.incarnation, self._link)
        subject.accepts.append(accept)
        subject.staying += 1
        if subject.subscription is None:
            subject.subscription = self._link.subscribe(where, QUEUE, subject.arrived)
        listener = PushEndpoint(self, service, subject, accept)
        try:
            while not await self._link.flushed(_FLUSH_LIMIT) and served.alone:
                await self._link.connected(_PATIENCE, _TELL_EVERY)
        except BaseException:
            await listener.close()
            raise
        if (refused := subject.subscription.refused) is not None:
            await listener.close()
            wrong = f"the NATS server does not allow this user to serve {served.endpoint}: {refused}"
            raise SettingsError([("NATS_SERVER", self._link.where, wrong)])
        return listener

    async def leave(self, service: Service, subject: Subject, accept: Accept) -> None:
        """Serve one endpoint less."""
        gone: list[Subscription] = []
        subject.staying -= 1
        if not subject.staying:
            # It stays in `accepts` until the server has sent all that it had.
            service.subjects.pop(subject.name, None)
            if subject.subscription is not None:
                gone.append(subject.subscription)
            if not service.subjects:
                gone += service.subscriptions
                self._services.pop(service.name, None)
        await self._link.unsubscribe(gone, _FLUSH_LIMIT)
        subject.accepts.remove(accept)

    async def flushed(self) -> None:
        await self._link.flushed(_FLUSH_LIMIT)


class PushEndpoint(Listener):
    """One endpoint."""

    def __init__(self, services: Services, service: Service, subject: Subject, accept: Accept) -> None:
        self._services = services
        self._service = service
        self._subject = subject
        self._accept = accept
        self._closed = False

    def record(self, instance_id: int) -> Mapping[str, Any]:
        return {"nats_tcp": self._subject.name}

    async def drain(self) -> None:
        await self._services.flushed()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._services.leave(self._service, self._subject, self._accept)
