"""etcd, killed, frozen, wiped and bent in other ways, as a backend sees it; real servers."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from core.discovery.world import Opener, Seen, Watcher, eventually, record
from ports import free_port
from reqplane.errors import DiscoveryUnavailable
from reqplane.interfaces import Discovery, Registration
from reqplane.model import Change, EndpointId
from servers import Etcd, generations

GENERATE = EndpointId("default", "backend", "generate")
KEY = "v1/instances/namespace.default.component.backend.endpoint.generate.instance.0"
SOON = 10.0
"""Seconds until everybody is registered again: 3 are promised, and looked at where nothing else runs."""


OURS, *OLDER = generations("etcd")
GENERATIONS = [
    pytest.param(OURS, id="newer"),
    *(pytest.param(program, id="older", marks=pytest.mark.slow) for program in OLDER),
]


@pytest.fixture(params=GENERATIONS)
def each_etcd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Etcd]:
    """Every generation that there is; it may be killed."""
    server = Etcd(tmp_path / "etcd", request.param).start()
    yield server
    server.close()


class Worker:
    """Registers, and again whenever that is lost, as serving does."""

    def __init__(self, discovery: Discovery, incarnation: int) -> None:
        self.discovery, self.incarnation = discovery, incarnation
        self.losses = 0
        self.registration: Registration | None = None
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        self.registration = registration = await self.discovery.reserve(GENERATE, self.incarnation)
        while True:
            number = registration.instance_id
            await registration.publish(record(GENERATE, number, self.incarnation, f"w{self.incarnation}:1"))
            await registration.lost
            self.losses += 1
            await registration.renew()

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        assert self.registration is not None
        await self.registration.withdraw()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class World:
    """Workers, each with a backend of its own, and a frontend that watches them."""

    def __init__(self, opened: Opener, watching: Watcher) -> None:
        self._opened, self._watching = opened, watching
        self.workers: list[Worker] = []

    async def start(self, etcd: Etcd, workers: int, ttl: int = 2, **env: str) -> Seen:
        env = {"ETCD_ENDPOINTS": etcd.url, "ETCD_LEASE_TTL": str(ttl), **env}
        self.frontend = await self._opened("etcd", **env)
        self.seen = await self._watching(self.frontend, GENERATE)
        for n in range(workers):
            self.workers.append(Worker(await self._opened("etcd", **env), 100 + n))
        await self.all_there()
        return self.seen

    async def all_there(self, within: float = 20.0) -> None:
        wanted = {worker.incarnation for worker in self.workers}
        await self.seen.until(lambda seen: seen.incarnations == wanted, within)

    async def registered(self, etcd: Etcd, within: float) -> None:
        """Until etcd itself has everybody."""

        def everybody() -> bool:
            told = etcd.ctl("get", "--prefix", "v1/instances/", "--print-value-only")
            return all(f'"incarnation":{worker.incarnation},' in told for worker in self.workers)

        await eventually(everybody, within)

    async def close(self) -> None:
        for worker in self.workers:
            await worker.close()


@pytest_asyncio.fixture
async def world(opened: Opener, watching: Watcher) -> AsyncIterator[World]:
    made = World(opened, watching)
    yield made
    await made.close()


def removals(seen: Seen) -> list[tuple[int, float]]:
    return [(change.instance.incarnation, change.hold) for change in seen.changes if not change.up]


def let_go(changes: list[Change]) -> list[Change]:
    """Removals that were not held, but for those of workers who are there with another number."""
    followed = zip(changes, [*changes[1:], None], strict=False)
    return [
        change
        for change, then in followed
        if not (change.up or change.hold)
        and not (then is not None and then.up and then.instance.incarnation == change.instance.incarnation)
    ]


def cut_off(discovery: Any) -> Callable[[], None]:
    """Break its connection; it gets the next one when what this returns is called."""
    sessions, gate = discovery._sessions, threading.Event()
    connect = sessions._connect

    def gated(number: int, failures: int) -> Any:
        gate.wait(30)
        return connect(number, failures)

    sessions._connect = gated
    sessions._client.close()
    return gate.set


# ── what lies in etcd ───────────────────────────────────────────────────────────────────────────────


async def test_etcdctl_finds_the_key_and_the_value_of_the_guide(world: World, each_etcd: Etcd) -> None:
    await world.start(each_etcd, workers=1)
    assert each_etcd.ctl("get", "--prefix", "v1/instances/", "--keys-only").strip() == KEY
    assert '"transport":{"tcp":"w100:1"}' in each_etcd.ctl("get", KEY, "--print-value-only")
    await world.workers[0].leave()
    assert each_etcd.ctl("get", "--prefix", "v1/instances/") == ""


async def test_records_in_dynamos_layout_are_read(own_etcd: Etcd, world: World) -> None:
    seen = await world.start(own_etcd, workers=0)
    value = (
        f'{{"type":"Endpoint","namespace":"default","component":"backend","endpoint":"generate",'
        f'"instance_id":{0x694DA20A230D2206},"transport":{{"http":"http://h:8888/v1/rpc/generate"}}}}'
    )
    own_etcd.ctl("put", "v1/instances/default/backend/generate/694da20a230d2206", value)
    await seen.until(lambda seen: seen.incarnations == {0x694DA20A230D2206})


async def test_a_record_that_nobody_can_read_is_told_of_once(
    own_etcd: Etcd, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    seen = await world.start(own_etcd, workers=0)
    for _ in range(2):
        own_etcd.ctl("put", "v1/instances/what.is.this", "x")
    own_etcd.ctl("put", KEY.replace("instance.0", "instance.9"), "[]")
    own_etcd.ctl("put", KEY, '{"transport":{"tcp":"a:1"}}')
    await seen.until(lambda seen: seen.now)
    [one, two] = [told.getMessage() for told in caplog.records if "left out" in told.getMessage()]
    assert "found 'what.is.this'" in one
    assert "wanted an object, found a list" in two


async def test_who_leaves_in_order_is_not_held(own_etcd: Etcd, world: World) -> None:
    """Though nobody is left."""
    seen = await world.start(own_etcd, workers=1)
    await world.workers[0].leave()
    await seen.until(lambda seen: not seen.now)
    assert removals(seen) == [(100, 0.0)]


async def test_the_last_one_to_vanish_is_held_and_others_are_not(own_etcd: Etcd, world: World) -> None:
    seen = await world.start(own_etcd, workers=2)
    for number in (0, 1):
        await world.workers[number].close()  # it does not register again
        own_etcd.ctl("del", KEY.replace("instance.0", f"instance.{number}"))
        await seen.until(lambda seen, n=number: len(removals(seen)) == n + 1)
    assert removals(seen) == [(100, 0.0), (101, 2)]


# ── what goes wrong with one worker ─────────────────────────────────────────────────────────────────


async def test_a_lease_revoked_by_hand_is_noticed_at_once(each_etcd: Etcd, world: World) -> None:
    seen = await world.start(each_etcd, workers=2, ttl=60)
    leases = each_etcd.ctl("lease", "list").split()
    revoked = [word for word in leases if len(word) == 16 and int(word, 16)]
    started = time.monotonic()
    for lease in revoked:
        each_etcd.ctl("lease", "revoke", lease)
    await seen.until(lambda seen: len(removals(seen)) >= 2)
    await world.all_there(within=SOON)
    await world.registered(each_etcd, within=SOON)
    assert time.monotonic() - started < 19  # and not 20, when the lease would be kept next


async def test_a_key_deleted_by_hand_is_put_again(each_etcd: Etcd, world: World) -> None:
    seen = await world.start(each_etcd, workers=1, ttl=60)
    each_etcd.ctl("del", KEY)
    await seen.until(lambda seen: removals(seen) == [(100, 60)])
    await world.all_there(within=SOON)
    assert each_etcd.ctl("get", "--prefix", "v1/instances/", "--keys-only").strip() == KEY


# ── what goes wrong with etcd ───────────────────────────────────────────────────────────────────────


async def test_while_etcd_is_dead_everybody_stays(each_etcd: Etcd, world: World) -> None:
    seen = await world.start(each_etcd, workers=2)
    before = len(seen.changes)
    each_etcd.kill()
    await asyncio.sleep(2.5)  # longer than a lease lives
    assert seen.incarnations == {100, 101}
    each_etcd.start()
    await world.registered(each_etcd, within=SOON)
    await asyncio.sleep(0.5)
    assert seen.incarnations == {100, 101}
    assert let_go(seen.changes[before:]) == []


async def test_who_comes_while_etcd_is_away_is_registered_when_it_is_back(
    own_etcd: Etcd, world: World, opened: Opener
) -> None:
    await world.start(own_etcd, workers=1)
    own_etcd.kill()
    late = Worker(await opened("etcd", ETCD_ENDPOINTS=own_etcd.url, ETCD_LEASE_TTL="2"), 200)
    world.workers.append(late)
    own_etcd.start()
    await world.registered(own_etcd, within=SOON)
    await world.all_there(within=SOON)


async def test_keys_that_are_deleted_when_etcd_thaws_are_held(each_etcd: Etcd, world: World) -> None:
    seen = await world.start(each_etcd, workers=2)
    before = len(seen.changes)
    each_etcd.freeze()
    await asyncio.sleep(5)
    assert seen.incarnations == {100, 101}
    each_etcd.thaw()
    await world.registered(each_etcd, within=SOON)
    await world.all_there(within=SOON)
    assert let_go(seen.changes[before:]) == []


async def test_an_etcd_whose_data_was_wiped_has_everybody_again(
    each_etcd: Etcd, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    seen = await world.start(each_etcd, workers=3)
    before = len(seen.changes)
    each_etcd.kill()
    each_etcd.wipe()
    each_etcd.start()
    await world.registered(each_etcd, within=SOON)
    await world.all_there(within=SOON)
    assert let_go(seen.changes[before:]) == []
    assert "has lost its data" in caplog.text


async def test_a_compacted_history_is_told_and_listed_anew(
    each_etcd: Etcd, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    seen = await world.start(each_etcd, workers=1, ttl=60)
    come_back = cut_off(world.frontend)
    each_etcd.ctl("put", KEY.replace("instance.0", "instance.7"), '{"transport":{"tcp":"a:1"}}')
    for n in range(3):
        each_etcd.ctl("put", "elsewhere", str(n))
    told = json.loads(each_etcd.ctl("get", "elsewhere", "-w", "json"))
    each_etcd.ctl("compact", str(told["header"]["revision"]))
    come_back()
    await seen.until(lambda seen: seen.incarnations == {100, 7}, SOON)
    assert "is forgotten, listing anew" in caplog.text
    assert removals(seen) == []
    each_etcd.ctl("del", KEY.replace("instance.0", "instance.7"))
    await seen.until(lambda seen: seen.incarnations == {100}, SOON)


async def test_a_watch_that_was_resumed_tells_what_it_missed(each_etcd: Etcd, world: World) -> None:
    """An announced leave among it, so that it is not held."""
    seen = await world.start(each_etcd, workers=2, ttl=60)
    come_back = cut_off(world.frontend)
    await world.workers[0].leave()
    await world.workers[1].leave()
    come_back()
    await seen.until(lambda seen: not seen.now)
    assert removals(seen) == [(100, 0.0), (101, 0.0)]


# ── several members, and none ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dead", ["refuses", "says nothing"])
async def test_the_first_member_is_dead(own_etcd: Etcd, world: World, dead: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = free_port() if dead == "refuses" else silent.getsockname()[1]
        members = f"http://127.0.0.1:{port},{own_etcd.url}"
        started = time.monotonic()
        await world.start(own_etcd, workers=1, ETCD_ENDPOINTS=members)
        assert time.monotonic() - started < 10  # two backends, each of which goes on after 0.8 s


@pytest.mark.slow
async def test_one_of_three_members_is_lost(world: World, tmp_path: Path) -> None:
    members = [Etcd(tmp_path / f"m{n}") for n in range(3)]
    cluster = ",".join(f"m{n}=http://127.0.0.1:{one._peer}" for n, one in enumerate(members))
    for n, one in enumerate(members):
        one._arguments = ["--name", f"m{n}", "--initial-cluster", cluster]
    try:
        await asyncio.gather(*(asyncio.to_thread(one.start) for one in members))
        seen = await world.start(members[0], 2, ETCD_ENDPOINTS=",".join(one.url for one in members))
        before = len(seen.changes)
        members[0].kill()
        world.workers.append(Worker(world.frontend, 300))
        await world.all_there()
        assert let_go(seen.changes[before:]) == []
        await asyncio.sleep(3)  # longer than a lease lives
        assert seen.incarnations == {100, 101, 300}
    finally:
        for one in members:
            one.close()


async def test_an_unreachable_etcd_is_no_error_yet(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    started = time.monotonic()
    discovery = await opened("etcd", ETCD_ENDPOINTS=url)
    assert 2.5 < time.monotonic() - started < 8
    assert discovery.where == f"etcd at {url}"
    assert "can't be reached yet" in caplog.text
    assert "Connection refused" in caplog.text


async def test_watching_an_unreachable_etcd_fails_with_the_variable(opened: Opener, monkeypatch) -> None:
    """The first one is told sooner, since opening has waited already."""
    monkeypatch.setattr("reqplane.discovery.etcd.backend._OPEN", 0.5)
    monkeypatch.setattr("reqplane.discovery.etcd.backend._FIRST", 0.5)
    monkeypatch.setattr("reqplane.discovery.etcd.backend._REMINDER", 600)
    discovery = await opened("etcd", ETCD_ENDPOINTS=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(DiscoveryUnavailable, match=r"Connection refused; set ETCD_ENDPOINTS"):
        async for _ in discovery.watch(GENERATE):
            pass


async def test_nothing_is_known_of_an_etcd_that_never_answered(
    opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    await opened("etcd", ETCD_ENDPOINTS=f"http://127.0.0.1:{free_port()}")
    assert "; trying on" in caplog.text
    assert "what is known so far" not in caplog.text


async def test_a_worker_waits_for_etcd_and_says_so(
    opened: Opener, monkeypatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("reqplane.discovery.etcd.backend._OPEN", 0.2)
    monkeypatch.setattr("reqplane.discovery.etcd.backend._REMINDER", 1)
    monkeypatch.setattr("reqplane.discovery.etcd.backend._PATIENCE", 3)
    discovery = await opened("etcd", ETCD_ENDPOINTS=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(DiscoveryUnavailable, match=r"tried for 3 s: .*refused; set ETCD_ENDPOINTS"):
        await discovery.reserve(GENERATE, 1)
    assert caplog.text.count("still waiting for etcd at") in (2, 3)  # each second, on a machine with time


async def test_closing_is_quick_even_if_etcd_is_frozen(own_etcd: Etcd, world: World) -> None:
    await world.start(own_etcd, workers=1)
    own_etcd.freeze()
    await asyncio.sleep(0.5)
    started = time.monotonic()
    await world.workers[0].discovery.aclose()
    assert time.monotonic() - started < 4
    own_etcd.thaw()
