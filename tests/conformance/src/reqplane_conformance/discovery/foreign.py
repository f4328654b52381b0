"""Records that somebody else has written: another program, or Dynamo."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from reqplane.model import EndpointId
from reqplane.wire.records import MAX_RECORD_BYTES, PREFIX, guide_key, parse_record

from reqplane_conformance.case import case
from reqplane_conformance.discovery.following import Follower
from reqplane_conformance.discovery.hooks import DiscoverySuite
from reqplane_conformance.discovery.stage import DiscoveryStage
from reqplane_conformance.verdict import check

_READING = "how what lies in the store becomes an Instance: `reqplane.wire.records.parse_record(key, bytes)`"
_LOST = "who notices that a record is not there any more, or not as it was, and sets `lost`"


class ForeignCases(DiscoverySuite, suite=True):
    """What others write."""

    group = "foreign"

    @case(needs=("foreign",))
    async def test_both_layouts(self, stage: DiscoveryStage) -> None:
        """Records under the guide's key and under Dynamo's are told of alike, and when they go."""
        backend = await stage.backend()
        path = stage.path()
        records = {
            guide_key(path, 5): {"transport": {"http_tcp": {"http_endpoint": "http://10.0.0.9:8081/x"}}},
            _dynamo_key(path, 0x1F2E3D4C5B6A7988): _dynamo_record(path, 0x1F2E3D4C5B6A7988),
        }
        early = [await stage.watch(backend, endpoint) for endpoint in (path, None)]
        for key, record in records.items():
            await self.put(stage, key, json.dumps(record))
        wanted = {parse_record(key, json.dumps(record)).incarnation for key, record in records.items()}
        for follower in early:
            await follower.until(
                lambda it=follower: it.incarnations == wanted, "records of both layouts", look=_READING
            )
        later = await stage.watch(backend, path)
        for key, record in records.items():
            _check_told(later, key, record)
            await self.put(stage, key, "")
        for follower in early:
            await follower.until(lambda it=follower: not it.there, "that both were taken away", look=_READING)

    @case(needs=("foreign",))
    async def test_junk_is_left_out(self, stage: DiscoveryStage) -> None:
        """What is no record, or contradicts its key, is left out, and the watch goes on."""
        backend = await stage.backend()
        path = stage.path()
        follower = await stage.watch(backend)
        for key, value in _junk(path).items():
            await self.put(stage, key, value)
        good = guide_key(path, 90)
        await self.put(stage, good, json.dumps({"transport": {"trial": "a:1"}}))
        await follower.until(lambda: follower.there, "a good record among junk", look=_READING)
        numbers = {change.instance.instance_id for change in follower.changes if change.up}
        check(
            numbers == {90},
            did=f"of records that are junk, it told number {', '.join(map(str, sorted(numbers - {90})))}",
            wanted="they are left out: `parse_record` raises WireError for them",
            look=_READING,
        )
        later = await stage.watch(backend, path)
        check(later.there, did="a later watch did not list a good record among junk", wanted="it is listed")

    @case(needs=("registers", "foreign"), within=60.0)
    async def test_taken_away(self, stage: DiscoveryStage) -> None:
        """A worker whose record somebody else takes away is lost; `renew` and `publish` bring it back."""
        backend, frontend = await stage.backend(), await stage.backend()
        follower = await stage.watch(frontend, stage.path())
        worker = await stage.published(backend)
        await follower.until(lambda: follower.sees(worker), "a worker")
        lost = worker.registration.lost
        await self.put(stage, guide_key(worker.endpoint, worker.number), "")
        await follower.until(lambda: not follower.sees(worker), "that a record was taken away")
        await asyncio.wait([lost], timeout=self.lease_seconds * stage.patience)
        check(
            lost.done(),
            did=f"`lost` was not done {self.lease_seconds:g} s after the record had been taken away",
            wanted="a worker learns that it is not registered any more",
            look=_LOST,
        )
        await worker.renew()
        check(
            not worker.registration.lost.done(),
            did="`lost` was done, still, after `renew`",
            wanted="a new future, for the new registration",
            look="`renew`",
        )
        await worker.publish()
        await follower.until(lambda: follower.sees(worker), "a worker that was lost and has registered again")


def _dynamo_key(path: EndpointId, number: int) -> str:
    return f"{PREFIX}{path.namespace}/{path.component}/{path.name}/{number:x}"


def _dynamo_record(path: EndpointId, number: int) -> dict[str, Any]:
    return {
        "type": "Endpoint",
        "namespace": path.namespace,
        "component": path.component,
        "endpoint": path.name,
        "instance_id": number,
        "transport": {"tcp": f"10.0.0.8:9999/{number:x}/{path.name}"},
    }


def _junk(path: EndpointId) -> Mapping[str, str]:
    """Keys and values of which nothing may come."""
    good = json.dumps({"transport": {"trial": "a:1"}})
    values = [
        "junk",
        "[]",
        '{"transport": 7}',
        '{"transport": {"trial": NaN}}',
        json.dumps({"transport": {"trial": "a:1"}, "instance_id": 1000}),
        json.dumps({"transport": {"trial": "a:1"}, "endpoint": "another"}),
        json.dumps({"transport": {"trial": "x" * MAX_RECORD_BYTES}}),
        '{"transport": {"trial": ' + "[" * 40 + "]" * 40 + "}}",
    ]
    junk = {guide_key(path, number): value for number, value in enumerate(values)}
    name = guide_key(path, 50).removesuffix("50")
    return {**junk, f"{name}x": good, f"{name}051": good, f"{PREFIX}{path.namespace}/nonsense": good}


def _check_told(follower: Follower, key: str, record: Mapping[str, Any]) -> None:
    wanted = parse_record(key, json.dumps(record))
    found = follower.there.get((wanted.endpoint, wanted.incarnation))
    check(
        found == wanted,
        did=f"the record {key} was listed as {found!r:.400}",
        wanted=f"{wanted!r:.400}",
        look=_READING,
    )
