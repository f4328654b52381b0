"""What a listener tells others leads them to it, and to nobody else."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from reqplane.errors import UnknownEndpoint, WireError
from reqplane.interfaces import Delivery
from reqplane.model import EndpointId, Instance
from reqplane.wire.frame import split

from reqplane_conformance.case import case
from reqplane_conformance.request.delivery import check_each_once, send_all
from reqplane_conformance.request.frames import check_arrived
from reqplane_conformance.request.hooks import RequestSuite
from reqplane_conformance.request.stage import Frontend, RequestStage, Worker, instance_of
from reqplane_conformance.verdict import Nonconformance, check, fail

_ENDPOINT = EndpointId("conformance", "backend", "generate")
_FOREIGN: tuple[Mapping[str, Any], ...] = (
    {},
    {"somebody_else": {"address": "127.0.0.1:9"}},
    {"somebody_else": "127.0.0.1:9"},
    {"http_tcp": {"http_endpoint": "http://127.0.0.1:9/v1/conformance", "tcp_endpoint": "127.0.0.1:9"}},
    {"nats_tcp": "conformance_backend.generate-1f"},
    {"tcp": "127.0.0.1:9/1f/generate"},
)
"""Parts of the records of other planes."""
_PLANE_OF = {"http_tcp": "http", "nats_tcp": "nats", "tcp": "tcp", "memory": "memory"}
"""Members of a record that are taken, and whose they are."""
_JUNK: tuple[Any, ...] = (None, True, 5, -1.5, "", "x", "\0", "x" * 5000, [], [5], {}, {"x": {}})
_LOCAL = ("127.0.0.1", "localhost")
_WILDCARD = re.compile(r"(?<![\d.])0\.0\.0\.0(?![\d.])|\[::\]|\"::\"|//\*:|\"\*\"")
"""As a part of a record in JSON."""
_SIMILAR = (
    "conformance_a.b.c",
    "conformance.a_b.c",
    "conformance.a.b_c",
    "conformance-a.b.c",
    "Conformance_a.b.c",
    "conformance_a.b.C",
)
"""Endpoints that are easily taken for one another."""


class RecordCases(RequestSuite, suite=True):
    """Records lead to their workers."""

    group = "delivery"

    @case(priority=2)
    async def test_record_survives_json(self, stage: RequestStage) -> None:
        """A record goes through JSON unchanged, and leads to its listener afterwards."""
        frontend, worker = await stage.frontend(), await stage.worker()
        record = worker.record
        try:
            read = json.loads(json.dumps(dict(record), allow_nan=False))
            worker.instance  # noqa: B018 - the way through discovery
        except (TypeError, ValueError, WireError) as error:
            fail(f"record(0) gave {record!r:.300}, which is not JSON: {error}", _IS_JSON, _RECORD)
        check(
            read == record, did=f"{record!r:.300} came back as {read!r:.300}", wanted=_IS_JSON, look=_RECORD
        )
        check_arrived(worker, await frontend.deliver(worker))

    @case()
    async def test_record_is_for_others(self, stage: RequestStage) -> None:
        """A record names an address that others can reach, no wildcard, wherever its listener is bound."""
        for env in ({}, _bound_to_all(stage)):
            worker = await stage.worker(env=env)
            shown = json.dumps(dict(worker.record))
            check(
                not _WILDCARD.search(shown),
                did=f"record(0) gave {shown:.300}" + (f" with {env} set" if env else ""),
                wanted="an address that leads here from other machines; with a wildcard they call themselves",
                look="`Listener.record`, and Host.advertise, which makes an address of a wildcard",
            )

    @case()
    async def test_record_has_a_member_of_its_own(self, stage: RequestStage) -> None:
        """What a record says of this plane stands under a name that no other plane uses."""
        worker = await stage.worker()
        members = list(worker.record)
        check(
            members
            and all(_PLANE_OF.get(name, stage.subject.name) == stage.subject.name for name in members),
            did=f"record(0) has the members {members}",
            wanted="at least one, such as the plane's own name, and none of another plane's: the records "
            "of all planes of an endpoint become one",
            look=_RECORD,
        )

    @case()
    async def test_record_is_pure(self, stage: RequestStage) -> None:
        """`record` changes nothing, whatever instance id it is asked for, and each leads here."""
        frontend, worker = await stage.frontend(), await stage.worker()
        before = json.dumps(dict(worker.listener.record(0)), sort_keys=True)
        others = [dict(worker.listener.record(number)) for number in (1, 77, 2**63)]
        after = json.dumps(dict(worker.listener.record(0)), sort_keys=True)
        check(
            before == after,
            did=f"record(0) gave {before} first and {after} when it had been asked for others",
            wanted="the same each time",
            look=_RECORD,
        )
        for number, record in zip((1, 77, 2**63), others, strict=True):
            worker.instance_id = number
            where = f"by the record for the instance id {number}, {json.dumps(record)}"
            check_arrived(worker, await _anew(frontend, stage).deliver(worker, when=where))

    @case()
    async def test_foreign_record(self, stage: RequestStage) -> None:
        """`target` gives None for a record that does not speak of this plane, or not of a worker."""
        frontend, worker = await stage.frontend(), await stage.worker()
        own = set(worker.record)
        for record in _FOREIGN:
            if own & set(record):
                continue
            found = _target(frontend, instance_of("other", _ENDPOINT, 1, 0, record))
            check(
                found is None,
                did=f"target() gave {found!r:.200} for {record}",
                wanted="None: the worker can't be reached by this plane",
                look="`target`: it looks for its own member in `instance.transport`",
            )

    @case()
    async def test_junk_in_its_record(self, stage: RequestStage) -> None:
        """`target` raises nothing, whatever stands in a record: others wrote it."""
        frontend, worker = await stage.frontend(), await stage.worker()
        for record in _spoilt(worker.record):
            _target(frontend, instance_of(stage.subject.name, _ENDPOINT, worker.incarnation, 0, record))

    @case(priority=4)
    async def test_two_endpoints(self, stage: RequestStage) -> None:
        """Of two endpoints of one process each gets its own frames."""
        frontend, first = await stage.frontend(), await stage.worker("conformance.backend.first")
        second = await stage.worker("conformance.backend.second", beside=first)
        for worker in (first, second, second, first):
            check_arrived(worker, await frontend.deliver(worker), (first, second))

    @case(within=20.0)
    async def test_similar_endpoints(self, stage: RequestStage) -> None:
        """Endpoints whose names differ by case or by where a '.' stands are different ones."""
        frontend = await stage.frontend()
        workers: list[Worker] = []
        for path in _SIMILAR:
            worker = await stage.worker(path, beside=workers[0] if workers else None)
            worker.on_accept = _for_itself(worker)
            workers.append(worker)
        for worker in workers:
            frame = stage.frame(endpoint=str(worker.endpoint))
            when = f"for {worker.endpoint} where {', '.join(_SIMILAR)} are served"
            check_arrived(worker, await frontend.deliver(worker, frame, when=when, look=_NAMES), workers)

    @pytest.mark.parametrize("numbers", [(0, 1), (0, 0)])
    @case(priority=4)
    async def test_two_workers(self, stage: RequestStage, numbers: tuple[int, int]) -> None:
        """Of two workers of one endpoint each gets its own, also when a number is used again."""
        frontend = await stage.frontend()
        first, second = [await stage.worker(instance_id=number) for number in numbers]
        for worker in (first, second, second, first):
            check_arrived(worker, await frontend.deliver(worker), (first, second))

    @case(within=20.0, priority=3)
    async def test_several_frontends(self, stage: RequestStage) -> None:
        """Several frontends reach one worker at once, and each gets the acks of its own frames."""
        worker = await stage.worker()
        frontends = [await stage.frontend() for _ in range(4)]
        frames = [[stage.frame() for _ in range(25)] for _ in frontends]
        await asyncio.gather(*map(send_all, frontends, [worker] * 4, frames, [5] * 4))
        check_each_once(worker.frames, [frame for some in frames for frame in some])

    @case(within=20.0, priority=1)
    async def test_ready_when_listen_returns(self, stage: RequestStage) -> None:
        """When `listen` returns, a frame that is sent there arrives, at once and each time."""
        frontend, first = await stage.frontend(), await stage.worker()
        when = "as soon as `listen` has returned"
        look = "`listen`: wait until the address is open, or the broker has confirmed the subscription"
        await frontend.deliver(first, when=when, look=look)
        for number in range(15):
            worker = await stage.worker(f"conformance.backend.number{number}", beside=first)
            frame = await frontend.deliver(worker, when=when, look=look)
            check_arrived(worker, frame, (first,))

    @case()
    async def test_sends_while_it_listens(self, stage: RequestStage) -> None:
        """A process that serves may send too, to others and to itself."""
        first, second = await stage.worker(), await stage.worker()
        for sender, receiver in ((first, second), (second, first), (first, first)):
            frontend = Frontend(stage, sender.transport, sender.host)
            frame = await frontend.deliver(receiver, when="also where its sender serves")
            check_arrived(receiver, frame, (first, second))


_IS_JSON = "{name: value} of JSON: strings, numbers, lists, objects with strings as keys; no tuples, no bytes"
_RECORD = "`Listener.record`"
_NAMES = "how an endpoint's path becomes an address: is there one for each, whatever its parts?"


def _bound_to_all(stage: RequestStage) -> dict[str, str]:
    """Variables by which a listener is bound to all addresses, and not to those of this machine alone."""
    names = getattr(stage.subject, "loopback", {})
    return {
        name: "0.0.0.0"
        for name in names
        if name.endswith("HOST") and "ADVERTISE" not in name and stage.env[name] in _LOCAL
    }


def _target(frontend: Frontend, instance: Instance) -> Any:
    """What `target` gives; it may not raise."""
    __tracebackhide__ = True
    try:
        return frontend.transport.target(instance)
    except Exception as error:
        raise Nonconformance(
            f"target() raised {type(error).__name__} ({error}) for the record {instance.transport!r:.200}",
            "None for what it can't use: one bad record may not keep a frontend from the others",
            "`target`: look at the types before using what is there",
        ) from error


def _anew(frontend: Frontend, stage: RequestStage) -> Frontend:
    """The same transport, which has made no targets yet."""
    return Frontend(stage, frontend.transport, frontend.host)


def _for_itself(worker: Worker) -> Any:
    """As the core's accept: what names another endpoint is refused."""

    def look(delivery: Delivery) -> None:
        header, _ = split(delivery.frame, 1_000_000)
        if json.loads(header)["endpoint"] != str(worker.endpoint):
            worker.got.pop()
            raise UnknownEndpoint("it is for another one")

    return look


def _spoilt(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The record with each of its values, on two levels, replaced by something else, or missing."""
    for name, value in record.items():
        rest = {other: kept for other, kept in record.items() if other != name}
        yield from ({**rest, name: junk} for junk in _JUNK)
        if isinstance(value, Mapping):
            inner = cast(Mapping[str, Any], value)
            for key in inner:
                yield {**rest, name: {other: kept for other, kept in inner.items() if other != key}}
                yield from ({**rest, name: {**inner, key: junk}} for junk in _JUNK)
