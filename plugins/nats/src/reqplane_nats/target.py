"""How to reach one worker: by its subject."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reqplane.model import EndpointId

_SUBJECT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")
_LONGEST = 512


def service_name(endpoint: EndpointId) -> str:
    """What NATS calls the service that an endpoint belongs to."""
    return f"{endpoint.namespace}_{endpoint.component}"


def subject_of(endpoint: EndpointId, incarnation: int) -> str:
    """Where a worker listens: a subject of its own, since numbers of instances are used again."""
    return f"{service_name(endpoint)}.{endpoint.name}-{incarnation:x}"


class Target:
    """A worker's subject, with the beginning of the lines that send there."""

    __slots__ = ("subject", "with_headers", "without_headers")

    def __init__(self, subject: str, inbox: str) -> None:
        self.subject = subject
        self.without_headers = f"PUB {subject} {inbox}".encode()
        self.with_headers = b"H" + self.without_headers

    def __repr__(self) -> str:
        return f"Target({self.subject})"


def subject_in(transport: Mapping[str, Any]) -> str | None:
    """The subject in a record's `transport`, if it is one that a worker may have."""
    subject: object = transport.get("nats_tcp")
    if isinstance(subject, str) and len(subject) <= _LONGEST and _SUBJECT.fullmatch(subject):
        return subject
    return None
