"""A worker of an endpoint, as a client knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reqplane.model import Instance as OwnInstance


@dataclass(frozen=True, slots=True)
class TransportType:
    """The plane that reaches it, and where; the address's form is the plane's own business."""

    kind: str
    address: str


@dataclass(frozen=True, slots=True, repr=False)
class Instance:
    """`str()` of one is `namespace/component/endpoint/id`."""

    instance_id: int
    namespace: str
    component: str
    endpoint: str
    transport: TransportType
    device_type: str | None = None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.component}/{self.endpoint}/{self.instance_id}"

    def __repr__(self) -> str:
        return f"Instance({self})"


def seen(own: OwnInstance) -> Instance:
    """An instance of Reqplane's in this form."""
    kind, member = next(iter(own.transport.items()), ("", ""))
    path = own.endpoint
    transport = TransportType(kind, _address(member))
    return Instance(own.instance_id, path.namespace, path.component, path.name, transport, own.device_type)


def _address(member: Any) -> str:
    """Of a member that is an object, what looks like an address comes first."""
    if isinstance(member, dict):
        texts: list[Any] = [value for value in member.values() if isinstance(value, str)]  # pyright: ignore[reportUnknownVariableType]
        return texts[0] if texts else ""
    return str(member)
