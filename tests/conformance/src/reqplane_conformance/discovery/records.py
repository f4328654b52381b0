"""Records are told as they were published, and only while they stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from reqplane.errors import LeaseLost, WireError
from reqplane.wire.records import MAX_RECORD_BYTES, encode_record

from reqplane_conformance.case import case
from reqplane_conformance.discovery.following import Follower
from reqplane_conformance.discovery.hooks import DiscoverySuite
from reqplane_conformance.discovery.stage import DiscoveryStage, Worker, only_ours
from reqplane_conformance.verdict import check, expected

_AWKWARD: dict[str, Any] = {
    "texts": ["", " ", "ä€𝄞", "line\nbreak", "nul\0", "'\"\\", "%2F/..", "{}"],
    "numbers": [0, -1, 2**63, 2**64 - 1, -(2**63), 0.1, -1.5e-300, 1e300],
    "others": [True, False, None, [], {}, [[]], [None]],
    "": {"a b": 1, "ä": 2, "a.b/c": 3, "\n": 4, "None": None},
    "deep": {"a": {"b": {"c": {"d": {"e": [{"f": 1}]}}}}},
}
_STORING = "how `publish` stores a record: as the bytes of `reqplane.wire.records.encode_record`"
_GOING = "how a record that was taken away is told: with the Instance that it had, its incarnation among it"


class RecordCases(DiscoverySuite, suite=True):
    """Records."""

    group = "records"

    @case(needs=("registers",))
    async def test_unchanged(self, stage: DiscoveryStage) -> None:
        """A record arrives as it was published, whatever JSON it holds."""
        backend, frontend = await stage.backend(), await stage.backend()
        follower = await stage.watch(frontend, stage.path())
        worker = await stage.worker(backend)
        more = {"capacity": 7, "version": "1.2.3+x", "started": 1700000000.125}
        await worker.publish(_AWKWARD, **more)
        await follower.until(lambda: follower.sees(worker), "a worker whose record was published")
        _check_same(follower, worker, worker.instance(_AWKWARD, **more))

    @case(needs=("registers",))
    async def test_large(self, stage: DiscoveryStage) -> None:
        """A record of 64 KiB, the largest that there is, arrives whole."""
        backend = await stage.backend()
        follower = await stage.watch(backend, stage.path())
        worker = await stage.worker(backend)
        address = "x" * (MAX_RECORD_BYTES - len(encode_record(worker.record(""))))
        await worker.publish(address)
        await follower.until(lambda: follower.sees(worker), "a worker whose record has 64 KiB")
        _check_same(follower, worker, worker.instance(address))

    @case(needs=("registers",), priority=1)
    async def test_unseen_before_publish(self, stage: DiscoveryStage) -> None:
        """Nobody is told of a number before its record is published."""
        backend = await stage.backend()
        follower = await stage.watch(backend)
        unseen = await stage.worker(backend)
        marker = await stage.published(backend, stage.path("marker"))
        await follower.until(lambda: follower.sees(marker), "a worker that was published later")
        told = [*(change.instance for change in follower.changes), *await stage.listing(backend)]
        check(
            all(instance.endpoint != unseen.endpoint for instance in told),
            did="a watch told of a worker that had only reserved its number",
            wanted="a worker is told of from `publish` on: before, nobody can reach it",
            look="what `reserve` writes, and how `watch` tells a number without a record",
        )

    @case(needs=("registers",))
    async def test_replaced(self, stage: DiscoveryStage) -> None:
        """A record published again replaces the one before it, and is told as one more `up`."""
        backend = await stage.backend()
        follower = await stage.watch(backend, stage.path())
        worker = await stage.worker(backend)
        for address in ("a:1", "b:2", "c:3"):
            await worker.publish(address)
            await follower.until(
                lambda at=address: _addresses(follower) == [at], f"the record with the address {address}"
            )
        check(
            all(change.up for change in follower.changes),
            did=follower.shown(),
            wanted="only `up`s: a worker that publishes again has not gone",
            look="how a changed record is told",
        )
        await _check_listed(stage, await stage.backend(), ["c:3"], "a worker had published three records")

    @case(needs=("registers",))
    async def test_gone_when_withdrawn(self, stage: DiscoveryStage) -> None:
        """A worker that withdraws is told of as gone, for sure, and is listed no more."""
        backend, frontend = await stage.backend(), await stage.backend()
        followers = [await stage.watch(frontend, endpoint) for endpoint in (stage.path(), None)]
        worker, other = await stage.worker(backend), await stage.worker(backend)
        await worker.publish("gone:1")
        await other.publish("stays:1")
        for follower in followers:
            await follower.until(lambda it=follower: len(it.there) == 2, "two workers")
        await worker.withdraw()
        for follower in followers:
            await follower.until(
                lambda it=follower: not it.sees(worker), "that a worker is gone", look=_GOING
            )
            check(follower.sees(other), did="another worker went with it", wanted="the other stays")
            _check_sure(follower, worker)
        await _check_listed(stage, frontend, ["stays:1"], "one of two workers had withdrawn")

    @case(needs=("registers",))
    async def test_number_used_again(self, stage: DiscoveryStage) -> None:
        """Who gets a number that another worker had is another worker: the former goes, the new one comes."""
        backend, frontend = await stage.backend(), await stage.backend()
        follower = await stage.watch(frontend, stage.path())
        for _ in range(5):
            worker = await stage.published(backend)
            await follower.until(
                lambda it=worker: follower.incarnations == {it.incarnation},
                "that one worker has gone, and another come with its number",
                look=_GOING,
            )
            await worker.withdraw()

    @case(needs=("registers",))
    async def test_endpoints_apart(self, stage: DiscoveryStage) -> None:
        """A process that serves two endpoints has one incarnation and two records, each for itself."""
        backend = await stage.backend()
        follower = await stage.watch(backend)
        one = await stage.worker(backend, stage.path("generate"), incarnation=77)
        two = await stage.worker(backend, stage.path("embed"), incarnation=77)
        await one.publish("a:1")
        await two.publish("b:2")
        await follower.until(lambda: follower.sees(one) and follower.sees(two), "both endpoints of a process")
        await one.withdraw()
        await follower.until(lambda: not follower.sees(one), "that one of them has gone")
        check(
            follower.sees(two),
            did="with the one endpoint of a process the other went, too",
            wanted="each registration stands for itself",
            look="what records are kept by: it has to be endpoint and number, not the incarnation alone",
        )
        await _check_listed(stage, backend, ["b:2"], "one of a process's two endpoints was withdrawn")

    @case(needs=("registers",))
    async def test_withdraw_twice(self, stage: DiscoveryStage) -> None:
        """`withdraw` again does nothing, in particular not to who has the number by then."""
        backend = await stage.backend()
        follower = await stage.watch(backend, stage.path())
        former = await stage.published(backend)
        await former.withdraw()
        successor = await stage.published(backend)
        await former.withdraw()
        third = await stage.published(backend)
        await follower.until(lambda: follower.sees(third), "a worker that came last")
        check(
            follower.sees(successor) and third.number != successor.number,
            did="the second `withdraw` of a worker took away what its successor had",
            wanted="`withdraw` is idempotent",
            look="`withdraw`: what is taken away has to be its own still",
        )

    @case(needs=("registers",))
    async def test_publish_after_withdraw(self, stage: DiscoveryStage) -> None:
        """`publish` after `withdraw` is LeaseLost, and nothing is told."""
        backend = await stage.backend()
        follower = await stage.watch(backend)
        worker = await stage.worker(backend)
        await worker.withdraw()
        look = "`publish`: is the number still this worker's?"
        with expected(LeaseLost, when="after withdraw", look=look, what="publish"), only_ours("publish"):
            await worker.registration.publish(worker.record())
        marker = await stage.published(backend, stage.path("marker"))
        await follower.until(lambda: follower.sees(marker), "a worker that was published later")
        check(
            not follower.of(worker), did=follower.shown(), wanted="nothing of what was withdrawn", look=look
        )

    @case(needs=("registers",))
    async def test_unreadable_is_refused(self, stage: DiscoveryStage) -> None:
        """A record that is no JSON or too large is a WireError, and the last good one stays."""
        backend = await stage.backend()
        follower = await stage.watch(backend, stage.path())
        worker = await stage.worker(backend)
        await worker.publish("good:1")
        await follower.until(lambda: _addresses(follower) == ["good:1"], "a record")
        bad = {"no JSON": object(), "infinite": float("inf"), "too large": "x" * (MAX_RECORD_BYTES + 1)}
        for kind, address in bad.items():
            when = f"for a record that is {kind}"
            with expected(WireError, when=when, look=_STORING, what="publish"), only_ours("publish"):
                await worker.registration.publish(worker.record(address))
        await _check_listed(stage, backend, ["good:1"], "later records had been refused")
        await worker.publish("good:2")
        await follower.until(lambda: _addresses(follower) == ["good:2"], "a good record after bad ones")


def _addresses(follower: Follower) -> list[object]:
    return [instance.transport.get("trial") for instance in follower.there.values()]


async def _check_listed(stage: DiscoveryStage, backend: Any, wanted: list[str], when: str) -> None:
    """A new watch has just these records, once it has told what it may tell a moment later."""
    __tracebackhide__ = True
    follower = await stage.watch(backend)
    try:
        await follower.until(
            lambda: _addresses(follower) == wanted,
            f"{', '.join(wanted)} alone, to one who watches when {when}",
        )
    finally:
        await follower.aclose()


def _check_same(follower: Follower, worker: Worker, wanted: Any) -> None:
    __tracebackhide__ = True
    found = follower.there[worker.endpoint, worker.incarnation]
    for name in ("transport", "codec", "planes", "capacity", "version", "started", "instance_id"):
        place, got, want = _difference(name, getattr(found, name), getattr(wanted, name))
        check(
            repr(got) == repr(want),
            did=f"of a published record {place} arrived as {got!r:.100}",
            wanted=f"{want!r:.100}",
            look=_STORING,
        )


def _difference(place: str, got: Any, want: Any) -> tuple[str, Any, Any]:
    """The first place in two JSON values where they differ, and what is there; `place` if they don't."""
    inner: set[Any] = _places(got) | _places(want) if type(got) is type(want) else set()
    for one in sorted(inner, key=repr):
        below = _difference(f"{place}[{one!r}]", _at(got, one), _at(want, one))
        if repr(below[1]) != repr(below[2]):
            return below
    return place, got, want


def _places(value: Any) -> set[Any]:
    if isinstance(value, Mapping):
        return set(cast(Mapping[Any, Any], value))
    return set(range(len(cast(list[Any], value)))) if isinstance(value, list) else set()


def _at(value: Any, place: Any) -> Any:
    try:
        return value[place]
    except LookupError:
        return "(nothing)"


def _check_sure(follower: Follower, worker: Worker) -> None:
    __tracebackhide__ = True
    last = follower.of(worker)[-1]
    check(
        not last.hold,
        did=f"a worker that withdrew is held for {last.hold:g} s",
        wanted="hold is 0: it left in order",
        look="`hold` of the Change; it is for records of which the backend is not sure that they are gone",
    )
