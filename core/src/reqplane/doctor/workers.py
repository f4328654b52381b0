"""What is wrong with a worker that discovery tells of, found out by probing it."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reqplane.doctor.addresses import Place, is_local, open_firewall, places
from reqplane.doctor.folder import forget
from reqplane.doctor.installed import other_plane, own_version
from reqplane.doctor.probe import Prober, RoundTrip
from reqplane.doctor.report import Advice, Finding, export, note, ok, pip_install, wrong
from reqplane.errors import (
    CannotConnect,
    DeliveryUnknown,
    NotAllowed,
    ReqplaneError,
    RequestRefused,
    StreamBroken,
    UnknownEndpoint,
    WorkerBusy,
    WorkerDraining,
    WrongInstance,
)
from reqplane.interfaces import Host, PayloadCodec, RequestTransport
from reqplane.model import Instance
from reqplane.plugins import Found
from reqplane.settings import load
from reqplane.sockets import holder_of, host_and_port, split_address

_AT_ONCE = 16
_ADDRESS = re.compile(r"(?:[a-z0-9+.-]+://)?((?:\[[^\]\s]+\]|[^\s:/@\[\]]+):[0-9]{1,5})(?![0-9])")


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


async def check_workers(instances: Sequence[Instance], around: Surroundings, prober: Prober) -> list[Finding]:
    """Probe all of them; the findings in their order."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def check(instance: Instance) -> list[Finding]:
        async with turn:
            return [await _check(instance, around, prober)]

    return [finding for some in await asyncio.gather(*map(check, instances)) for finding in some]


async def _check(instance: Instance, around: Surroundings, prober: Prober) -> Finding:
    codec = around.codecs.get(instance.codec)
    routes = [(one, target) for one in around.transports if (target := _target(one, instance)) is not None]
    if not routes:
        return _no_route(instance, around)
    if codec is None:
        line = export("DYN_REQUEST_PLANE_CODEC", "msgpack")
        return wrong(
            f"{instance.label} wants the codec {instance.codec!r}, which is not installed here",
            Advice("in the worker's shell, then start it again:", (line,)),
        )
    transport, target = routes[0]
    try:
        await prober.probe(instance, transport, target, codec)  # opens the connections
        trip = await prober.probe(instance, transport, target, codec)
    except ReqplaneError as error:
        return await _explain(error, _Probe(instance, transport, codec, around, prober))
    return ok(_told(instance, transport, trip))


def _target(transport: RequestTransport[Any], instance: Instance) -> Any:
    try:
        return transport.target(instance)
    except Exception:  # a record that the plane can't digest
        return None


def _told(instance: Instance, transport: RequestTransport[Any], trip: RoundTrip) -> str:
    where = address_of(instance)
    return (
        f"{instance.label} on {transport.name}{f' at {where}' if where else ''}: accepted after "
        f"{_ms(trip.accepted)}, called home after {_ms(trip.home)}, answered after {_ms(trip.whole)}"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _no_route(instance: Instance, around: Surroundings) -> Finding:
    theirs, ours = instance.planes, around.planes
    if set(theirs) & set(ours):
        return wrong(
            f"{instance.label}: its record has no address that {','.join(ours)} can use",
            forget(instance, around.discovery, around.env),
        )
    return wrong(
        f"{instance.label} is on {','.join(theirs) or 'an unknown plane'}, this side on {','.join(ours)}",
        other_plane(theirs, ours, around.found),
    )


# ── why a probe failed ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Probe:
    """One that failed."""

    instance: Instance
    transport: RequestTransport[Any]
    codec: PayloadCodec
    around: Surroundings
    prober: Prober


async def _explain(error: ReqplaneError, probe: _Probe) -> Finding:
    label = probe.instance.label
    match error:
        case DeliveryUnknown(reason="never_called_home"):
            return _never_called_home(label, probe.around)
        case CannotConnect() | DeliveryUnknown():
            return await _no_answer(error, probe)
        case UnknownEndpoint() | WrongInstance():
            gone = forget(probe.instance, probe.around.discovery, probe.around.env)
            return wrong(f"{label} is gone, another process has its address: {error.problem}", gone)
        case WorkerBusy() | WorkerDraining():
            return note(f"{label} takes nothing new at the moment: {error.problem}")
        case NotAllowed():
            lines = ("unset DYN_RESPONSE_ALLOW",)
            return wrong(
                f"{label} may not connect to {probe.around.home}: {error.problem}",
                Advice("in the worker's shell, then start it again:", lines),
            )
        case RequestRefused():
            lines = (pip_install(f"reqplane=={own_version()}"),)
            return wrong(
                f"{label} refused the request: {error.problem}",
                Advice("use the same version on both sides; in the worker's shell:", lines),
            )
        case StreamBroken():
            return wrong(
                f"{label} connected to {probe.around.home}, but the answer broke: {error.problem}",
                Advice("the worker's log says why; look at the network between both"),
            )
        case _:
            return wrong(f"{label}: {error}", Advice(f"see docs/errors.md#{type(error).__name__}"))


def _never_called_home(label: str, around: Surroundings) -> Finding:
    what = (
        f"{label} accepted the request, but could not connect to {around.home}: "
        f"the response port is closed to it, or the address leads elsewhere"
    )
    host, number = split_address(around.home)
    place = around.response_place
    if place is None:
        return wrong(what, Advice("workers must be able to connect to that address"))
    if place.advertised and not is_local(host):
        line = f"unset {place.advertise_variable}"
        return wrong(what, Advice("tell workers the address that this machine has on its way out:", (line,)))
    return wrong(what, open_firewall(place.port_variable, host, number, fixed=bool(place.port)))


async def _no_answer(error: ReqplaneError, probe: _Probe) -> Finding:
    instance, around = probe.instance, probe.around
    what = f"{instance.label}: nobody answers at {address_of(instance) or 'its address'} ({error.problem})"
    variable = _advertise_variable(probe.transport, around.env)
    right = await _right_host(probe)
    if right is not None and variable is not None:
        return wrong(
            f"{what}; the worker tells a wrong address: it does answer at {right}",
            Advice("in the worker's shell, then start it again:", (export(variable, right),)),
        )
    if (frozen := _frozen(instance)) is not None:
        return wrong(f"{what}; process {frozen} is stopped", Advice("let it run:", (f"kill -CONT {frozen}",)))
    advice = [forget(instance, around.discovery, around.env)]
    host = _host_of(instance)
    if variable is not None and host is not None and not is_local(host):
        line = f"export {variable}=$(hostname -I | cut -d ' ' -f 1)"
        words = "if it lives and tells a wrong address, in its shell, then start it again:"
        advice.append(Advice(words, (line,)))
    return wrong(what, *advice)


async def _right_host(probe: _Probe) -> str | None:
    """An address of this machine at which this very worker answers, where its record names another one."""
    told = _host_of(probe.instance)
    for host in dict.fromkeys(("127.0.0.1", probe.around.host.advertise("0.0.0.0"))):
        if told is None or host == told:
            continue
        moved = dataclasses.replace(probe.instance, transport=_moved(probe.instance.transport, told, host))
        target = _target(probe.transport, moved)
        try:
            if target is not None:
                await probe.prober.probe(moved, probe.transport, target, probe.codec)
                return host
        except DeliveryUnknown as error:
            if error.reason == "never_called_home":  # it is there; what else is wrong shows the next time
                return host
        except ReqplaneError:
            continue
    return None


def _moved(value: Any, told: str, host: str) -> Any:
    """A record's member with another host in its addresses."""
    if isinstance(value, Mapping):
        return {name: _moved(member, told, host) for name, member in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, str):
        bracketed = f"[{told}]" if ":" in told else told
        return value.replace(f"{bracketed}:", f"{host_and_port(host, 1).rpartition(':')[0]}:", 1)
    return value


def _frozen(instance: Instance) -> int | None:
    """The process of this machine that has the worker's port, if it is stopped."""
    host = _host_of(instance)
    if host is None or not is_local(host):
        return None
    _, number = split_address(address_of(instance) or "")
    holder = holder_of(number)
    return holder.pid if holder is not None and holder.is_stopped() else None


def _advertise_variable(transport: RequestTransport[Any], env: Mapping[str, str]) -> str | None:
    if transport.settings is None:
        return None
    return next((place.advertise_variable for place in places(load(transport.settings, env))), None)


# ── addresses in records ────────────────────────────────────────────────────────────────────────────


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


def _host_of(instance: Instance) -> str | None:
    address = address_of(instance)
    return None if address is None else split_address(address)[0]
