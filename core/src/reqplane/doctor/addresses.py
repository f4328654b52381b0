"""Addresses of this machine: whether they can be listened on, and whether others would get through."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from reqplane.doctor.report import Advice, Finding, as_root, export, note, ok, wrong
from reqplane.errors import SettingsError, describe
from reqplane.interfaces import Host
from reqplane.settings import is_wildcard, port
from reqplane.sockets import host_and_port, listening_socket, told_address

_PATIENCE = 2.0
"""Seconds that a connection to an address of our own may take."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a plugin listens, by its settings `{prefix}_HOST`, `{prefix}_PORT`, `{prefix}_ADVERTISE_HOST`."""

    prefix: str
    host: str
    port: int | None
    advertised: str

    @property
    def host_variable(self) -> str:
        return f"{self.prefix}_HOST"

    @property
    def port_variable(self) -> str:
        return f"{self.prefix}_PORT"

    @property
    def advertise_variable(self) -> str:
        return f"{self.prefix}_ADVERTISE_HOST"


def places(loaded: Any) -> Iterator[Place]:
    """The places that one plugin's settings tell of."""
    values = {field.metadata["variable"]: field for field in dataclasses.fields(loaded)}

    def value(variable: str, default: Any) -> Any:
        return getattr(loaded, values[variable].name) if variable in values else default

    for variable, field in values.items():
        prefix = variable.removesuffix("_PORT")
        if field.metadata["parse"] is port and prefix != variable and f"{prefix}_HOST" in values:
            told = value(f"{prefix}_ADVERTISE_HOST", "")
            yield Place(prefix, value(f"{prefix}_HOST", ""), value(variable, None), told)


async def check_listening(place: Place, host: Host, used_by_worker: str | None) -> list[Finding]:
    """Whether a worker could listen there and be reached at what it would tell others.

    `used_by_worker` names a registered worker that is at this place already.
    """
    try:
        listener = await listening_socket(
            place.host,
            place.port or 0,
            host_variable=place.host_variable,
            port_variable=place.port_variable,
            backlog=8,
        )
    except SettingsError as error:
        if used_by_worker is not None:
            return [ok(f"{place.port_variable}: port {place.port} is in use by {used_by_worker}")]
        return [cannot_listen(place, error)]
    with listener:
        number: int = listener.getsockname()[1]
        told = told_address(place.advertised or host.advertise(place.host), number)
        return await check_advertised(place, *told, "a worker here", number)


def cannot_listen(place: Place, error: SettingsError) -> Finding:
    """The finding about an address that can't be listened on."""
    variable, value, problem = error.problems[0]
    if variable == place.port_variable:
        return wrong(
            f"{variable}={value}: {problem}",
            Advice("take any free port, or end what is in the way:", (export(variable, "0"),)),
        )
    return wrong(f"{variable}={value}: {problem}", Advice("listen on all addresses:", (f"unset {variable}",)))


async def check_advertised(
    place: Place, told: str, number: int, who: str, bound: int | None = None
) -> list[Finding]:
    """Whether there is somebody at what `who` tells others: its own listener, or a balancer before it.

    `bound` is the listener's port, where that is another one than `number`.
    """
    address = host_and_port(told, number)
    why = await reach(told, number)
    if why is not None:
        return [
            await _not_reached(
                place, told, number, f"{who} would tell others {address}, but from here: {why}"
            )
        ]
    own = host_and_port(place.host, bound or number)
    findings = [ok(f"{who} can listen on {own}, and be reached at {address}")]
    if not place.advertised and is_wildcard(place.host) and (more := sorted(_addresses() - {told})):
        findings.append(
            note(
                f"this machine has other addresses too ({', '.join(more)}); "
                f"{place.advertise_variable} chooses another one than {told}"
            )
        )
    return findings


async def _not_reached(place: Place, told: str, number: int, what: str) -> Finding:
    if place.advertised and (not await is_local(told) or not is_wildcard(place.host)):
        right = "tell others the address that this machine has on its way out:"
        return wrong(what, Advice(right, (f"unset {place.advertise_variable}",)))
    return wrong(what, open_firewall(place.port_variable, told, number, fixed=bool(place.port)))


def open_firewall(port_variable: str, told: str, number: int, *, fixed: bool) -> Advice:
    """Let connections to a port of this machine in; a port that changes each time is made a fixed one."""
    tables = "ip6tables" if ":" in told else "iptables"
    commands = [as_root(f"{tables} -I INPUT -p tcp --dport {number} -j ACCEPT")]
    if not fixed:
        commands.insert(0, export(port_variable, str(number)))
    return Advice("if a firewall is in between, open the port on this machine:", tuple(commands))


async def reach(host: str, number: int) -> str | None:
    """Connect, and hang up; None if that worked, else why not."""
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(host, number)
    except TimeoutError:
        return f"no connection within {_PATIENCE:g} s"
    except (OSError, UnicodeError) as error:
        return describe(error)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return None


async def is_local(host: str) -> bool:
    """Whether it is an address of this machine."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_PATIENCE):
            found = await loop.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except (OSError, UnicodeError):  # TimeoutError is an OSError; UnicodeError is of names like "a..b"
        return False
    return True


def _addresses() -> set[str]:
    """The IPv4 addresses by which this machine's name is known, as far as it tells."""
    found: set[str] = set()
    with suppress(OSError):
        for *_, address in socket.getaddrinfo(socket.gethostname(), 0, socket.AF_INET, socket.SOCK_STREAM):
            found.add(str(address[0]))
    return {address for address in found if not address.startswith("127.")}
