"""The addresses that stand in a worker's record, whatever plane they are for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from reqplane.model import Instance
from reqplane.sockets import host_and_port, split_address

_ADDRESS = re.compile(
    r"(?:[a-z0-9+.-]+://)?(?:[^\s/]*@)?"  # a user and password are passed over
    r"((?:\[[^\]\s]+\]|[^\s:/@\[\]]+):[0-9]{1,5})(?![0-9@])"
)


def addresses(instance: Instance) -> Iterator[str]:
    """Everything in a record that looks like host:port, request addresses first."""
    for text in _texts(instance.transport):
        if (match := _ADDRESS.match(text)) is not None:
            try:
                split_address(match[1])
            except ValueError:
                continue
            yield match[1]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for member in value.values():  # pyright: ignore[reportUnknownVariableType]
            yield from _texts(member)


def address_of(instance: Instance) -> str | None:
    """host:port of the worker, as far as its record tells in a way that is understood here."""
    return next(addresses(instance), None)


def host_of(instance: Instance) -> str | None:
    address = address_of(instance)
    return None if address is None else split_address(address)[0]


def moved(value: Any, told: str, host: str) -> Any:
    """A record's member with another host in its addresses."""
    if isinstance(value, Mapping):
        return {name: moved(member, told, host) for name, member in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, str):
        bracketed = f"[{told}]" if ":" in told else told
        return value.replace(f"{bracketed}:", f"{host_and_port(host, 1).rpartition(':')[0]}:", 1)
    return value
