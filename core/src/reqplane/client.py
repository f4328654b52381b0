"""The asking side: a client of one endpoint, whose calls are streams (reqplane.stream)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from reqplane.context import Context
from reqplane.errors import NoInstances
from reqplane.instances import InstanceTable
from reqplane.interfaces import PendingStream, RouterPolicy
from reqplane.model import Instance
from reqplane.sending import Calling
from reqplane.stream import Stream
from reqplane.wire.request import HeadTemplate


class Client:
    """Calls one endpoint.  Made by `Endpoint.client()`."""

    def __repr__(self) -> str:
        return f"Client({self.path!r}, router_mode={self.router_mode!r})"

    def __init__(
        self,
        calling: Calling,
        table: InstanceTable,
        router_mode: str,
        policies: Mapping[str, RouterPolicy],
        routed: Callable[[str], Awaitable[Client]],
    ) -> None:
        self.calling = calling
        self.table = table
        self.router_mode = router_mode
        self.routed = routed
        """Gives a client of the same endpoint with another router mode."""
        self.thresholds: dict[float, RouterPolicy] = {}
        """The policies of routers that leave busy workers alone, by their threshold."""
        self._policies = policies
        self._templates: dict[str, HeadTemplate] = {}
        self.path = str(table.endpoint)

    @property
    def policy(self) -> RouterPolicy:
        """What `generate` picks workers by."""
        return self._policies[self.router_mode]

    # ── calls; each returns a Stream, nothing is sent before it is awaited or iterated ──

    def generate(
        self,
        request: Any,
        *,
        context: Context | None = None,
        timeout: float | None = None,
        annotated: bool = False,
    ) -> Stream:
        """Call a worker of the client's router mode's choice.

        `timeout` is in seconds for the whole answer, and travels to the worker; `context` hands on a
        handler's id, headers, deadline and cancellation.
        """
        return Stream(self, request, self.policy, None, context, timeout, annotated)

    def round_robin(
        self,
        request: Any,
        *,
        context: Context | None = None,
        timeout: float | None = None,
        annotated: bool = False,
    ) -> Stream:
        """Call the worker whose turn it is."""
        return Stream(self, request, self._policies["round_robin"], None, context, timeout, annotated)

    def random(
        self,
        request: Any,
        *,
        context: Context | None = None,
        timeout: float | None = None,
        annotated: bool = False,
    ) -> Stream:
        """Call any worker."""
        return Stream(self, request, self._policies["random"], None, context, timeout, annotated)

    def direct(
        self,
        request: Any,
        instance_id: int,
        *,
        context: Context | None = None,
        timeout: float | None = None,
        annotated: bool = False,
    ) -> Stream:
        """Call the worker of this number, and no other."""
        _check_number(instance_id)
        return Stream(self, request, None, instance_id, context, timeout, annotated)

    # ── who there is ──

    def instances(self) -> list[Instance]:
        """The workers that can be reached, by number."""
        return self.table.instances()

    def instance_ids(self) -> list[int]:
        """Their numbers."""
        return [instance.instance_id for instance in self.table.instances()]

    async def wait_for_instances(self, timeout: float | None = None) -> list[int]:
        """Wait until a worker can be reached; their numbers.  NoInstances after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self.table.wait_for_any()
        except TimeoutError:
            raise await self.no_instances() from None
        return self.instance_ids()

    async def no_instances(self, wanted: int | None = None) -> NoInstances:
        """The error that says whom discovery holds instead."""
        unusable, present = self.table.unusable(), self.instance_ids()
        return NoInstances(
            endpoint=self.path,
            planes=self.calling.planes,
            where=self.table.where,
            unusable=unusable,
            others=[] if unusable or present else await self.table.other_endpoints(),
            wanted=wanted,
            present=present,
            installs=self.calling.installs,
        )

    def template(self, codec: str, pending: PendingStream) -> HeadTemplate:
        """What heads of requests in this codec have in common."""
        template = self._templates.get(codec)
        if template is None or not template.matches(pending.info):
            template = self._templates[codec] = HeadTemplate(self.path, codec, pending.info)
        return template


def _check_number(instance_id: object) -> None:
    if not isinstance(instance_id, int):
        raise TypeError(f"instance_id is {instance_id!r}, wanted a number")
