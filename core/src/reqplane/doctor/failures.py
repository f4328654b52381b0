"""Why a worker could not be probed, and what to do about it."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping
from typing import Any

from reqplane.doctor.addresses import Place, is_local, open_firewall, places
from reqplane.doctor.folder import forget
from reqplane.doctor.installed import install_this_version
from reqplane.doctor.records import address_of, host_of, moved
from reqplane.doctor.report import Advice, Finding, export, installing, note, wrong
from reqplane.doctor.surroundings import Attempt
from reqplane.errors import (
    CannotConnect,
    DeliveryUnknown,
    NotAllowed,
    PayloadError,
    ReqplaneError,
    RequestError,
    RequestRefused,
    StreamBroken,
    UnknownEndpoint,
    WorkerBusy,
    WorkerDraining,
    WrongInstance,
)
from reqplane.interfaces import RequestTransport
from reqplane.model import Instance
from reqplane.settings import load
from reqplane.sockets import holder_of, split_address


async def explain(error: ReqplaneError, attempt: Attempt) -> Finding:
    """What `error` says about the worker, and what to do."""
    label = attempt.instance.label
    match error:
        case DeliveryUnknown(reason="never_called_home"):
            return await _never_called_home(attempt)
        case CannotConnect() | DeliveryUnknown():
            return await _no_answer(error, attempt)
        case UnknownEndpoint() | WrongInstance():
            gone = forget(attempt.instance, attempt.around.discovery, attempt.around.env)
            return wrong(f"{label} is gone, another process has its address: {error.problem}", gone)
        case WorkerBusy() | WorkerDraining():
            return note(f"{label} takes nothing new at the moment: {error.problem}")
        case NotAllowed():
            return wrong(
                f"{label} may not connect to {attempt.around.home}: {error.problem}",
                _allow("in the worker's shell, then start it again:"),
            )
        case PayloadError():  # nothing that the codec refuses: the plane may be in order
            return note(f"{label}: {error.problem}")
        case RequestRefused():
            line = install_this_version(attempt.instance.planes)
            return wrong(
                f"{label} refused the request: {error.problem}",
                installing("use the same version on both sides; in the worker's shell", line),
            )
        case StreamBroken():
            return wrong(
                f"{label} connected to {attempt.around.home}, but the answer broke: {error.problem}",
                Advice("the worker's log says why; look at the network between both"),
            )
        case _:
            return wrong(f"{label}: {error}", Advice(f"see docs/errors.md#{type(error).__name__}"))


async def _never_called_home(attempt: Attempt) -> Finding:
    around, worker = attempt.around, host_of(attempt.instance)
    what = (
        f"{attempt.instance.label} accepted the request, but could not connect to {around.home}: "
        f"the response port is closed to it, the address leads elsewhere, or its DYN_RESPONSE_ALLOW "
        f"is against it; its log tells"
    )
    host, number = split_address(around.home)
    place = around.response_place
    if place is None:
        return wrong(what, Advice("workers must be able to connect to that address"))
    if _is_loopback(host) and worker is not None and not await is_local(worker):
        lines = (f"unset {place.host_variable} {place.advertise_variable}",)
        return wrong(what, Advice("listen where other machines can connect to:", lines))
    if place.advertised and not await is_local(host):
        lines = (f"unset {place.advertise_variable}",)
        return wrong(what, Advice("tell workers the address that this machine has on its way out:", lines))
    allow = _allow("if its log says that it may not connect, in its shell, then start it again:")
    if worker is not None and await is_local(worker):  # what this machine could reach before, so could it
        return wrong(what, allow)
    return wrong(what, allow, open_firewall(place.port_variable, host, number, fixed=bool(place.port)))


def _allow(when: str) -> Advice:
    return Advice(when, ("unset DYN_RESPONSE_ALLOW",))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _no_answer(error: RequestError, attempt: Attempt) -> Finding:
    instance, around = attempt.instance, attempt.around
    where = error.address or address_of(instance) or "its address"
    what = f"{instance.label}: nobody answers at {where} ({error.problem})"
    place = _place(attempt.transport, around.env)
    variable = None if place is None else place.advertise_variable
    right = await _right_host(attempt)
    if right is not None and variable is not None:
        return wrong(
            f"{what}; the worker tells a wrong address: it does answer at {right}",
            Advice("in the worker's shell, then start it again:", (export(variable, right),)),
        )
    if (frozen := await _frozen(instance)) is not None:
        return wrong(f"{what}; process {frozen} is stopped", Advice("let it run:", (f"kill -CONT {frozen}",)))
    host = host_of(instance)
    advice = [_does_it_run(instance, place), forget(instance, around.discovery, around.env)]
    if variable is not None and host is not None and not await is_local(host):
        line = f"export {variable}=$(hostname -I | cut -d ' ' -f 1)"
        words = "if it lives and tells a wrong address, in its shell, then start it again:"
        advice.append(Advice(words, (line,)))
    return wrong(what, *advice)


def _does_it_run(instance: Instance, place: Place | None) -> Advice:
    """The first questions about a connection that is refused, which can be answered there only."""
    address = address_of(instance)
    if address is None:
        return Advice("does the worker run? its log, and that machine's list of processes, tell")
    host, number = split_address(address)
    words = f"does the worker run, and listen? on its machine, `lsof -i :{number}` shows it"
    if _is_loopback(host) and place is not None:
        return Advice(
            f"{words}; if that is another machine than this, {host} leads back to oneself, and the worker "
            f"has to listen on all addresses there: {place.host_variable}=0.0.0.0"
        )
    return Advice(f"{words}; if it does, a firewall between both may keep port {number} closed")


async def _right_host(attempt: Attempt) -> str | None:
    """An address of this machine at which this very worker answers, where its record names another one."""
    told = host_of(attempt.instance)
    for host in dict.fromkeys(("127.0.0.1", attempt.around.host.advertise("0.0.0.0"))):
        if told is None or host == told:
            continue
        there = moved(attempt.instance.transport, told, host)
        other = dataclasses.replace(attempt, instance=dataclasses.replace(attempt.instance, transport=there))
        try:
            if other.target is not None:
                await other.run()
                return host
        except DeliveryUnknown as error:
            if error.reason == "never_called_home":  # it is there; what else is wrong shows the next time
                return host
        except ReqplaneError:
            continue
    return None


async def _frozen(instance: Instance) -> int | None:
    """The process of this machine that has the worker's port, if it is stopped."""
    host = host_of(instance)
    if host is None or not await is_local(host):
        return None
    _, number = split_address(address_of(instance) or "")
    holder = holder_of(number)
    return holder.pid if holder is not None and holder.is_stopped() else None


def _place(transport: RequestTransport[Any], env: Mapping[str, str]) -> Place | None:
    """Where workers of this plane listen, by this side's settings."""
    if transport.settings is None:
        return None
    return next(iter(places(load(transport.settings, env))), None)
