"""What is wrong with a worker that discovery tells of, found out by probing it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

from reqplane.doctor.failures import explain
from reqplane.doctor.folder import forget
from reqplane.doctor.installed import install_this_version, other_plane, own_version
from reqplane.doctor.probe import Prober, RoundTrip
from reqplane.doctor.records import address_of
from reqplane.doctor.report import Advice, Finding, export, installing, note, ok, wrong
from reqplane.doctor.surroundings import Attempt, Surroundings, target_of
from reqplane.errors import ReqplaneError
from reqplane.interfaces import RequestTransport
from reqplane.model import Instance

_AT_ONCE = 16
_LONGEST = 45.0
"""Seconds for all probes together."""


async def check_workers(instances: Sequence[Instance], around: Surroundings, prober: Prober) -> list[Finding]:
    """Probe all of them; the findings in their order."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def check(instance: Instance) -> list[Finding]:
        async with turn:
            return _check_version(instance) + await _check(instance, around, prober)

    checks = {asyncio.ensure_future(check(instance)): instance for instance in instances}
    if checks:
        await asyncio.wait(checks, timeout=_LONGEST)
    findings: list[Finding] = []
    for one, instance in checks.items():
        if one.done():
            findings += one.result()
        else:
            one.cancel()
            findings.append(note(f"{instance.label}: there was no time left to probe it"))
    await asyncio.gather(*checks, return_exceptions=True)
    return findings


def _check_version(instance: Instance) -> list[Finding]:
    theirs, ours = instance.version, own_version()
    if theirs is None or theirs == ours:  # Dynamo's records tell of none
        return []
    line = install_this_version(instance.planes)
    return [
        note(
            f"{instance.label} is of version {theirs}, this side of {ours}, as in a rolling update",
            installing("if that is not meant: in the worker's shell, then start it again", line),
        )
    ]


async def _check(instance: Instance, around: Surroundings, prober: Prober) -> list[Finding]:
    codec = around.codecs.get(instance.codec)
    usable = [one for one in around.transports if target_of(one, instance) is not None]
    if not usable:
        return [_no_route(instance, around)]
    if codec is None:
        line = export("DYN_REQUEST_PLANE_CODEC", "msgpack")
        what = f"{instance.label} wants the codec {instance.codec!r}, which is not installed here"
        return [wrong(what, Advice("in the worker's shell, then start it again:", (line,)))]
    return [await _probe(Attempt(instance, one, codec, around, prober)) for one in usable]


async def _probe(attempt: Attempt) -> Finding:
    try:
        await attempt.run()  # the connections are open then
        trip = await attempt.run()
    except ReqplaneError as error:
        return await explain(error, attempt)
    except Exception as error:
        what = f"{attempt.instance.label}: the plane {attempt.transport.name} raised"
        return wrong(f"{what} {type(error).__name__}: {error}", Advice("that is a defect of the plugin"))
    return ok(_told(attempt.instance, attempt.transport, trip))


def _told(instance: Instance, transport: RequestTransport[Any], trip: RoundTrip) -> str:
    where = address_of(_as_seen_by(transport, instance))
    told = f"{instance.label} on {transport.name}{f' at {where}' if where else ''}: accepted after "
    told += _ms(trip.accepted)
    if trip.home is None or trip.whole is None:
        return f"{told}; it is Dynamo's, which answers no request that asks for nothing"
    return f"{told}, called home after {_ms(trip.home)}, answered after {_ms(trip.whole)}"


def _as_seen_by(transport: RequestTransport[Any], instance: Instance) -> Instance:
    """The instance with nothing but this plane's part of its record."""
    for name, member in instance.transport.items():
        part = dataclasses.replace(instance, transport={name: member})
        if target_of(transport, part) is not None:
            return part
    return instance


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
