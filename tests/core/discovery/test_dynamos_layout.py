"""DYN_WIRE_PROFILE=dynamo: a worker's number is its incarnation, its key is Dynamo's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from core.discovery.test_etcd_picture import FakeEtcd
from core.discovery.world import GENEROUS, Opener, Watcher
from reqplane.discovery.etcd.client import EtcdClient
from reqplane.discovery.etcd.registry import Registry
from reqplane.discovery.etcd.seam import Removal
from reqplane.discovery.etcd.settings import EtcdSettings
from reqplane.discovery.slots import DYNAMO_TTL, Folder, reserve_own
from reqplane.errors import DiscoveryUnavailable, LeaseLost
from reqplane.model import EndpointId
from reqplane.settings import load
from reqplane.wire.records import as_dynamo, dynamo_file, dynamo_key, encode_record, make_record
from servers import Etcd, generations

GENERATE = EndpointId("default", "backend", "generate")
EMBED = EndpointId("default", "backend", "embed")
ID = 0x43B7BCEDD4BE931F
KEY = dynamo_key(GENERATE, ID)
PROFILE = {"DYN_WIRE_PROFILE": "dynamo"}


def record(number: int = ID, endpoint: EndpointId = GENERATE) -> dict[str, object]:
    return as_dynamo(make_record(endpoint, number, number, {"tcp": "a:1/x"}, "json", ["tcp"]))


# ── every backend ───────────────────────────────────────────────────────────────────────────────────


async def test_the_number_is_the_incarnation_and_stays(
    backend: str, opened: Opener, watching: Watcher
) -> None:
    """Frontends of the guide's profile see it too."""
    worker, frontend = await opened(backend, **PROFILE), await opened(backend)
    seen = await watching(frontend, GENERATE)
    registration = await worker.reserve(GENERATE, ID)
    assert registration.instance_id == ID
    await registration.publish(record())
    await seen.until(lambda seen: set(seen.now) == {(GENERATE, ID)})
    assert seen.incarnations == {ID}
    former = registration.lost
    await registration.renew()
    assert registration.instance_id == ID
    assert registration.lost is not former
    await registration.publish(record())
    await seen.until(lambda seen: seen.incarnations == {ID})
    await registration.withdraw()
    await registration.withdraw()
    await seen.until(lambda seen: not seen.now)


async def test_endpoints_of_a_process_have_the_same_number(
    backend: str, opened: Opener, watching: Watcher
) -> None:
    worker = await opened(backend, **PROFILE)
    seen = await watching(worker, None)
    for endpoint in (GENERATE, EMBED):
        registration = await worker.reserve(endpoint, ID)
        await registration.publish(record(endpoint=endpoint))
    await seen.until(lambda seen: set(seen.now) == {(GENERATE, ID), (EMBED, ID)})
    await worker.aclose()


# ── a folder ────────────────────────────────────────────────────────────────────────────────────────


def names(folder: Path, kind: str) -> list[str]:
    return sorted(os.listdir(folder / "v1" / kind))


async def test_its_file_is_where_dynamo_looks(opened: Opener, folder: Path) -> None:
    worker = await opened(**PROFILE)
    registration = await worker.reserve(GENERATE, ID)
    assert names(folder, "instances") == []
    await registration.publish(record())
    assert names(folder, "instances") == ["default%2Fbackend%2Fgenerate%2F43b7bcedd4be931f"]
    content = (folder / "v1" / "instances" / dynamo_file(GENERATE, ID)).read_text()
    assert json.loads(content) == record()
    await registration.withdraw()
    assert names(folder, "instances") == names(folder, "locks") == names(folder, "drafts") == []


async def test_a_record_that_somebody_removed_is_put_back(opened: Opener, folder: Path) -> None:
    """Dynamo does, when nothing touched it for so long: the process was frozen."""
    worker = await opened(DYN_FILE_TTL="0.3", **PROFILE)
    registration = await worker.reserve(GENERATE, ID)
    await registration.publish(record())
    there = folder / "v1" / "instances" / dynamo_file(GENERATE, ID)
    there.unlink()
    await asyncio.wait_for(registration.lost, GENEROUS)
    await registration.renew()
    await registration.publish(record())
    assert json.loads(there.read_text())["instance_id"] == ID


async def test_a_number_is_held_once(opened: Opener) -> None:
    worker = await opened(**PROFILE)
    await worker.reserve(GENERATE, ID)
    with pytest.raises(DiscoveryUnavailable, match="held already"):
        await worker.reserve(GENERATE, ID)


async def test_a_killed_worker_goes_at_once_and_is_cleared_away(
    opened: Opener, watching: Watcher, folder: Path
) -> None:
    frontend = await opened()
    seen = await watching(frontend, GENERATE)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, Path(__file__).with_name("worker_process.py"), "dynamo"),
        env={**os.environ, "DYN_FILE_KV": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    await seen.until(lambda seen: seen.now)
    started = time.monotonic()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await seen.until(lambda seen: not seen.now)
    assert time.monotonic() - started < DYNAMO_TTL / 2
    assert len(names(folder, "instances")) == len(names(folder, "locks")) == 1
    await opened(**PROFILE)
    assert names(folder, "instances") == names(folder, "locks") == []


def test_who_lives_is_not_cleared_away(folder: Path) -> None:
    place = Folder(str(folder), private=False)
    slot = reserve_own(place, GENERATE, 10.0, ID)
    slot.write(encode_record(record()))
    elsewhere = Path(place.locks) / dynamo_file(GENERATE, ID + 1)
    elsewhere.write_text("another machine")
    Folder(str(folder), private=False).sweep()
    assert slot.touch()
    assert elsewhere.exists()
    slot.free()


def test_a_file_appears_by_being_created(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is what Dynamo 0.9 listens for; where there are no links it is renamed."""
    renamed: list[str] = []

    def replace(source: str, target: str) -> None:
        renamed.append(target)
        os.rename(source, target)

    monkeypatch.setattr("reqplane.discovery.slots.os", SimpleNamespace(**{**vars(os), "replace": replace}))
    place = Folder(str(folder), private=False)
    slot = reserve_own(place, GENERATE, 10.0, ID)
    slot.write(encode_record(record()))
    assert renamed == []
    slot.write(encode_record(record()))
    assert len(renamed) == 1
    assert slot.touch()
    assert names(folder, "drafts") == []
    slot.free()


# ── etcd ────────────────────────────────────────────────────────────────────────────────────────────


def held(etcd: Etcd, key: str) -> list[tuple[int, int]]:
    """Each entry's lease and creation."""
    told = json.loads(etcd.ctl("get", "--prefix", key, "--write-out", "json"))
    return [(entry["lease"], entry["create_revision"]) for entry in told.get("kvs", [])]


async def test_its_lease_has_its_number_and_its_key_comes_with_the_record(
    opened: Opener, quiet_etcd: Etcd
) -> None:
    worker = await opened("etcd", **PROFILE)
    number = worker._sessions._registry._own  # type: ignore[attr-defined]
    key = dynamo_key(GENERATE, number)
    registration = await worker.reserve(GENERATE, number)
    assert held(quiet_etcd, key) == []
    await registration.publish(record(number))
    ((lease, created),) = held(quiet_etcd, key)
    assert lease == number
    await registration.publish(record(number))
    assert held(quiet_etcd, key) == [(lease, created)]
    quiet_etcd.ctl("lease", "revoke", f"{number:x}")
    await asyncio.wait_for(registration.lost, GENEROUS)
    await registration.renew()
    await registration.publish(record(number))
    ((again, later),) = held(quiet_etcd, key)
    assert again == number
    assert later > created
    await worker.aclose()
    assert held(quiet_etcd, key) == []


@pytest.mark.parametrize("program", generations("etcd"), ids=lambda path: path.split("/")[1])
def test_a_lease_of_our_number_is_ours(program: str, tmp_path: Path) -> None:
    """Though the answer to the first attempt was lost, and again after it was revoked."""
    server = Etcd(tmp_path / "etcd", program).start()
    settings = load(EtcdSettings, {"ETCD_ENDPOINTS": server.url})
    client = EtcdClient(settings.endpoints[0], settings, 5.0, is_curious=True)
    try:
        for _ in range(2):
            assert client.grant(10, ID) == ID
        client.revoke(ID)
        assert client.grant(10, ID) == ID
        assert client.grant(10, 0) not in (0, ID)
        assert client.keep(ID)
    finally:
        client.close()
        server.close()


@pytest.fixture
def etcd() -> FakeEtcd:
    return FakeEtcd()


def test_a_record_whose_answer_was_lost_is_ours(etcd: FakeEtcd) -> None:
    registry = Registry(10, ID)
    place = registry.take(etcd, GENERATE, ID, None, lambda: None)
    etcd.claim(KEY, b"{}", registry.lease)
    registry.look(etcd.list("v1/"))
    registry.publish(etcd, place, encode_record(record()))
    assert etcd.entries[KEY].created == place.created
    assert json.loads(etcd.entries[KEY].value) == record()


def test_what_was_written_so_is_withdrawn_too(etcd: FakeEtcd) -> None:
    registry = Registry(10, ID)
    place = registry.take(etcd, GENERATE, ID, None, lambda: None)
    etcd.claim(KEY, b"{}", registry.lease)
    registry.withdraw(etcd, place)
    assert etcd.entries == {}
    assert registry.places == {}


def test_one_that_was_never_published_leaves_nothing(etcd: FakeEtcd) -> None:
    registry = Registry(10, ID)
    place = registry.take(etcd, GENERATE, ID, None, lambda: None)
    assert registry.lease == ID
    registry.withdraw(etcd, place)
    assert etcd.history == []


def test_a_deletion_that_is_heard_late_is_another_life(etcd: FakeEtcd) -> None:
    fallen: list[int] = []
    registry = Registry(10, ID)
    place = registry.take(etcd, GENERATE, ID, None, lambda: fallen.append(1))
    assert not registry.lost_in([Removal(KEY, 5)])
    registry.publish(etcd, place, encode_record(record()))
    assert not registry.lost_in([Removal(KEY, place.created - 1)])
    assert fallen == []
    assert registry.lost_in([Removal(KEY, place.created + 1)])
    assert fallen == [1]
    with pytest.raises(LeaseLost):
        registry.publish(etcd, place, encode_record(record()))


def test_a_lease_that_went_before_the_record_came(etcd: FakeEtcd) -> None:
    registry = Registry(10, ID)
    place = registry.take(etcd, GENERATE, ID, None, lambda: None)
    etcd.revoke(ID)
    with pytest.raises(LeaseLost):
        registry.publish(etcd, place, encode_record(record()))
    again = registry.take(etcd, GENERATE, ID, None, lambda: None)
    registry.publish(etcd, again, encode_record(record()))
    assert etcd.entries[KEY].lease == ID


def test_a_key_is_held_once(etcd: FakeEtcd) -> None:
    registry = Registry(10, ID)
    registry.take(etcd, GENERATE, ID, None, lambda: None)
    with pytest.raises(DiscoveryUnavailable, match="already"):
        registry.take(etcd, GENERATE, ID, None, lambda: None)
