"""Workers in a process of its own, so that it can be killed and frozen."""

from __future__ import annotations

from dataclasses import dataclass

from reqplane.model import EndpointId

from reqplane_conformance.outside import OutsideProcess


@dataclass(frozen=True, slots=True)
class There:
    """A worker of another process."""

    endpoint: EndpointId
    number: int
    incarnation: int


class OutsideWorkers(OutsideProcess):
    """Has a backend open and registers workers with it, again whenever they are lost.

    It can be told to "withdraw" all of them.
    """

    module = "reqplane_conformance.discovery.process"
    ready = "open"

    async def reserve(self, endpoint: EndpointId, count: int) -> list[int]:
        """Take so many numbers, all at once."""
        numbers: list[int] = (await self.do("reserve", path=str(endpoint), count=count))["numbers"]
        return numbers

    async def register(self, endpoint: EndpointId) -> There:
        """One more worker, with its record."""
        said = await self.do("register", path=str(endpoint))
        return There(endpoint, said["number"], said["incarnation"])
