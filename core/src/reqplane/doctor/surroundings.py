"""This side, as far as it matters to workers, and an attempt to reach one from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reqplane.doctor.addresses import Place
from reqplane.doctor.probe import Prober, RoundTrip
from reqplane.interfaces import Host, PayloadCodec, RequestTransport
from reqplane.model import Instance
from reqplane.plugins import Found


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of this side matters to its workers."""

    env: Mapping[str, str]
    discovery: str
    planes: tuple[str, ...]
    found: Sequence[Found]
    transports: Sequence[RequestTransport[Any]]
    codecs: Mapping[str, PayloadCodec]
    host: Host
    response_place: Place | None
    home: str
    """What workers connect to."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """To reach one worker by one plane."""

    instance: Instance
    transport: RequestTransport[Any]
    codec: PayloadCodec
    around: Surroundings
    prober: Prober

    @property
    def target(self) -> Any:
        """What the plane makes of the worker's record; None: not its own, or nothing it can digest."""
        return target_of(self.transport, self.instance)

    async def run(self) -> RoundTrip:
        """Probe it; a ReqplaneError tells how far that came."""
        return await self.prober.probe(self.instance, self.transport, self.target, self.codec)


def target_of(transport: RequestTransport[Any], instance: Instance) -> Any:
    """The plane's target for a worker; None where its record is not one that the plane can use."""
    try:
        return transport.target(instance)
    except Exception:  # of a record that the plane can't digest
        return None
