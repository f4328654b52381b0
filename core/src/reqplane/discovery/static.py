"""Discovery by a list in a variable: for workers behind a balancer, and where there is nothing to share.

Nobody registers: whoever set the list knows where the workers are.  Each entry is one instance, its number
the place in the list.  What a URL leads to may be one worker or many, and they come and go unseen.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any, ClassVar, Self

from reqplane.discovery.entries import EXAMPLE, StaticSettings
from reqplane.discovery.watches import Watch
from reqplane.errors import DiscoveryUnavailable, SettingsError
from reqplane.interfaces import Discovery, Host, Registration
from reqplane.model import Change, DiscoveryCapabilities, EndpointId, Instance
from reqplane.settings import Settings, load


class StaticRegistration(Registration):
    """Nothing: the list says where workers are.  Never lost."""

    def __init__(self, endpoint: EndpointId, log: logging.Logger) -> None:
        self.instance_id = 0
        self.lost = asyncio.get_running_loop().create_future()
        self._endpoint, self._log = endpoint, log
        self._told = False

    async def publish(self, record: Mapping[str, Any]) -> None:
        if not self._told:
            self._told = True
            self._log.info(
                "%s is not registered anywhere: frontends reach it by a URL in their DYN_STATIC_INSTANCES",
                self._endpoint,
            )

    async def withdraw(self) -> None: ...

    async def renew(self) -> None: ...


class StaticDiscovery(Discovery):
    """What the list says, for ever."""

    name = "static"
    capabilities = DiscoveryCapabilities(registers=False)
    settings = StaticSettings
    loopback: ClassVar[Mapping[str, str]] = {
        "DYN_STATIC_INSTANCES": "conformance.backend.generate=http://127.0.0.1:9"
    }
    where = "the list DYN_STATIC_INSTANCES"

    def __init__(self, host: Host, settings: StaticSettings, codec: str) -> None:
        self._log = host.log
        self._listing = [
            Change(_instance(number, endpoint, url, codec), up=True)
            for number, (endpoint, url) in enumerate(settings.instances)
        ]
        self._watches: set[Watch] = set()
        self._closed = False

    @classmethod
    async def open(cls, host: Host) -> Self:
        settings = load(StaticSettings, host.env)
        if not settings.instances:
            problem = f"static discovery wants a list of PATH=URL, such as {EXAMPLE}"
            raise SettingsError([("DYN_STATIC_INSTANCES", "", problem)])
        return cls(host, settings, load(Settings, host.env).codec)

    async def reserve(self, endpoint: EndpointId, incarnation: int) -> StaticRegistration:
        if self._closed:
            raise DiscoveryUnavailable("this discovery backend is closed")
        return StaticRegistration(endpoint, self._log)

    async def watch(self, endpoint: EndpointId | None) -> AsyncGenerator[list[Change], None]:
        if self._closed:
            return
        watch = Watch(endpoint)
        watch.put(self._listing)
        self._watches.add(watch)
        try:
            while (batch := await watch.take()) is not None:
                yield batch
        finally:
            self._watches.discard(watch)

    async def aclose(self) -> None:
        self._closed = True
        for watch in self._watches:
            watch.close()


def _instance(number: int, endpoint: EndpointId, url: str, codec: str) -> Instance:
    """No record announces anything here, so there are no batches, and the codec is this side's own."""
    return Instance(
        endpoint=endpoint,
        instance_id=number,
        incarnation=_incarnation(endpoint, url),
        transport={"http_tcp": {"http_endpoint": url}},
        codec=codec,
        planes=("http",),
        shared=True,
    )


def _incarnation(endpoint: EndpointId, url: str) -> int:
    """A number that stays the same as long as the entry does: 63 bits, as those that workers draw."""
    digest = hashlib.sha256(f"{endpoint}={url}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
