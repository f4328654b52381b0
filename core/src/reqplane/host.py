"""What the core hands to plugins: the runtime's tasks, timers, addresses and identity."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import ssl
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal

from reqplane.model import Limits, Load
from reqplane.settings import is_wildcard
from reqplane.timers import TimerWheel

log = logging.getLogger("reqplane")

_SOMEWHERE = "192.0.2.1"
"""An address of nobody (RFC 5737).  A UDP socket "connected" to it sends nothing, and tells which of this
machine's addresses the default route would use."""
_SOMEWHERE_BY_IPV6 = "2001:db8::1"
"""Likewise (RFC 3849), for machines that have no other route."""


class InflightBytes:
    """Counts the bytes of unfinished requests (`reqplane.interfaces.Budget`)."""

    __slots__ = ("_most", "used")

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0

    def take(self, size: int) -> bool:
        if self.used and self.used + size > self._most:
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        self.used -= size


def draw_incarnation() -> int:
    return secrets.randbits(63)


class RuntimeHost:
    """One runtime, as plugins see it (`reqplane.interfaces.Host`)."""

    def __init__(
        self,
        env: Mapping[str, str],
        limits: Limits,
        *,
        dynamo: bool = False,
        incarnation: int | None = None,
    ) -> None:
        self.env = env
        self.limits = limits
        self.dynamo = dynamo
        self.process = os.urandom(16).hex()
        self.incarnation = draw_incarnation() if incarnation is None else incarnation
        self.timers = TimerWheel(asyncio.get_running_loop())
        self.log = log
        self.inflight = InflightBytes(limits.max_inflight_bytes)
        self._wants_reports: list[Callable[[int, Load], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.closed = False

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[Any]:
        """Run `work` until it ends or the runtime closes."""
        task = asyncio.get_running_loop().create_task(work, name=f"reqplane {name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the task %r failed", task.get_name(), exc_info=error)

    def advertise(self, bind_host: str, toward: str = "") -> str:
        """The address to tell others for a listener bound to `bind_host`."""
        if not is_wildcard(bind_host):
            return bind_host
        address = _route_to(toward or _SOMEWHERE)
        if address is None and ":" in bind_host and not toward:  # it listens on IPv6 too
            address = _route_to(_SOMEWHERE_BY_IPV6)
        if address is None:
            log.warning("this machine has no route to anywhere: others are told to reach it at 127.0.0.1")
            return "127.0.0.1"
        return address

    def ssl_context(self, role: Literal["server", "client"]) -> ssl.SSLContext | None:
        """TLS is not supported yet."""
        return None

    def reported(self, incarnation: int, load: Load) -> None:
        """Hand a worker's report to those who want to know."""
        for tell in self._wants_reports:
            tell(incarnation, load)

    def hand_reports_to(self, tell: Callable[[int, Load], None]) -> None:
        """Call `tell` with each worker's reports; once, however often it is asked for."""
        if tell not in self._wants_reports:
            self._wants_reports.append(tell)

    async def aclose(self) -> None:
        """Cancel what still runs and wait for it."""
        self.closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.timers.close()


def _route_to(toward: str) -> str | None:
    """The local address of a UDP socket connected toward a host; nothing is sent."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(toward, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            found: str = probe.getsockname()[0]
    except OSError:
        return None
    return None if is_wildcard(found) else found
