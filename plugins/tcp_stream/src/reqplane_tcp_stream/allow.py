"""Where a worker may call home to: a request says where, and anybody may have written it."""

from __future__ import annotations

import ipaddress
from typing import NoReturn, TypeAlias

from reqplane.sockets import split_address

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

FIRST_PORT = 1024
"""Ports below it belong to the system's services; no frontend listens there."""

_NOWHERE = tuple(
    ipaddress.ip_network(network)
    for network in ("0.0.0.0/8", "255.255.255.255/32", "224.0.0.0/4", "::/128", "ff00::/8")
)
"""Unspecified, broadcast and multicast: no frontend has such an address, and 0.0.0.0 is this machine."""
_NOT_BY_DEFAULT = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local, where most clouds answer questions about the machine itself …
        "fe80::/10",
        "100.100.100.200/32",  # … and where others do
        "168.63.129.16/32",
        "fd00:ec2::/32",
        "fd20:ce::254/128",
    )
)
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""A gateway turns these into the IPv4 address in their last 4 bytes."""


def networks(raw: str) -> tuple[Network, ...]:
    """The setting's value: a comma list of networks."""
    found = tuple(_network(part.strip()) for part in raw.split(",") if part.strip())
    return found or _no_network(raw)


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        _no_network(text)
    if network.network_address != ipaddress.ip_address(text.partition("/")[0]):
        raise ValueError(f"{text!r} is an address in a network; did you mean {network}?")
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text!r} is an IPv4 network written as IPv6; write it as 10.0.0.0/8")
    return network


def _no_network(text: str) -> NoReturn:
    raise ValueError(
        f"{text!r} is no network; wanted networks or addresses separated by commas, "
        f"such as 10.0.0.0/8, 192.168.1.7 or fd12::/48"
    )


def objection(allowed: tuple[Network, ...] | None, address: str) -> str | None:
    """What forbids calling host:port; None if nothing does, or if the host is a name or nonsense."""
    try:
        return why_not(*split_address(address), allowed)
    except ValueError:
        return None


def why_not(host: str, port: int, allowed: tuple[Network, ...] | None) -> str | None:
    """What forbids calling this numeric address; None if nothing does.

    `allowed` None: anywhere but link-local and the clouds' metadata addresses.
    """
    address = _plain(ipaddress.ip_address(host.partition("%")[0]))
    if port < FIRST_PORT:
        return (
            f"a worker may not call home to {host} at port {port}: ports below {FIRST_PORT} are the system's"
        )
    if _within(address, _NOWHERE):
        return f"a worker may not call home to {host}: no frontend can have that address"
    if not (_within(address, allowed) if allowed is not None else not _within(address, _NOT_BY_DEFAULT)):
        return f"a worker may not call home to {host}; the worker's DYN_RESPONSE_ALLOW says where it may"
    return None


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 address only wraps."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED:
            return ipaddress.IPv4Address(address.packed[-4:])
    return address


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
