"""What a plugin can offer, and what is known of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reqplane.interfaces import Discovery, PayloadCodec, RequestTransport, ResponseTransport, RouterPolicy

RESPONSE_PLANE = "tcp_stream"
"""The one response plane; request planes bring it along."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One question that is answered with classes: what they are called, who asks, what they must be."""

    what: str
    hook: str
    contract: type[Any]
    variable: str = ""


REQUEST_PLANE = Kind(
    "request plane", "reqplane_request_transports", RequestTransport, variable="DYN_REQUEST_PLANE"
)
RESPONSE = Kind("response plane", "reqplane_response_transports", ResponseTransport)
DISCOVERY = Kind(
    "discovery backend", "reqplane_discovery_backends", Discovery, variable="DYN_DISCOVERY_BACKEND"
)
CODEC = Kind("codec", "reqplane_payload_codecs", PayloadCodec, variable="DYN_REQUEST_PLANE_CODEC")
POLICY = Kind("router mode", "reqplane_router_policies", RouterPolicy, variable="DYN_ROUTER_MODE")
KINDS = (REQUEST_PLANE, RESPONSE, DISCOVERY, CODEC, POLICY)

OBSERVERS_HOOK = "reqplane_observers"


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing that a plugin offers, and whether the settings choose it."""

    kind: str
    name: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin: where it comes from, what it offers and, where that is so, why it can't be used."""

    name: str
    distribution: str
    version: str
    group: str
    offers: tuple[Offer, ...] = ()
    disabled: bool = False
    broken: str | None = None

    @property
    def chosen(self) -> bool:
        """Whether anything that it offers is in use."""
        return any(offer.chosen for offer in self.offers)
