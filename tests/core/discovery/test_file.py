"""What only the file backend does, within one process."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from core.discovery.world import GENEROUS, FakeHost, Opener, Watcher, eventually, our_threads, record
from reqplane.discovery.file import FileDiscovery
from reqplane.discovery.scan import Scan
from reqplane.discovery.scan import _read as read_record
from reqplane.discovery.slots import DYNAMO_TTL, Folder, Slot, reserve
from reqplane.errors import DiscoveryUnavailable, LeaseLost, SettingsError
from reqplane.model import EndpointId
from reqplane.wire.records import encode_record, instance_name

GENERATE = EndpointId("default", "backend", "generate")
EMBED = EndpointId("default", "backend", "embed")
NAME = instance_name(GENERATE, 0)
LOG = logging.getLogger("reqplane.test")
TTL = 10.0

# Recorded from Dynamo 1.6.1.
DYNAMO_FILE = "default%2Fbackend%2Fgenerate%2F43b7bcedd4be931f"
DYNAMO_RECORD = (
    '{"type":"Endpoint","component":"backend","endpoint":"generate","namespace":"default",'
    '"instance_id":4879576450941752095,'
    '"transport":{"tcp":"10.0.0.2:36155/43b7bcedd4be931f/default/backend/generate"},'
    '"device_type":"cuda","request_plane_codec":"msgpack"}'
)


@pytest.fixture
def records(folder: Path) -> Path:
    path = folder / "v1" / "instances"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def place(folder: Path) -> Folder:
    place = Folder(str(folder), private=False)
    place.make()
    return place


def published(place: Folder, incarnation: int) -> Slot:
    slot = reserve(place, GENERATE, TTL)
    slot.write(encode_record(record(GENERATE, slot.number, incarnation)))
    return slot


def told(scan: Scan) -> list[tuple[bool, int]]:
    return [(change.up, change.instance.incarnation) for change in scan.look()]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def aged(path: Path, seconds: float) -> None:
    """Make a file look as if it was touched so long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


async def lost(future: asyncio.Future[None]) -> None:
    await asyncio.wait_for(asyncio.shield(future), GENEROUS)


# ── the folder ──────────────────────────────────────────────────────────────────────────────────────


async def test_where_things_lie(opened: Opener, folder: Path) -> None:
    registration = await (await opened()).reserve(GENERATE, 11)
    await registration.publish(record(GENERATE, 0, 11))
    assert mode(folder) == 0o700
    assert os.listdir(folder / "v1" / "instances") == [NAME]
    await registration.withdraw()
    assert os.listdir(folder / "v1" / "instances") == []
    assert os.listdir(folder / "v1" / "drafts") == []
    assert os.listdir(folder / "v1" / "locks") == [NAME]  # never unlinked


async def test_an_unusable_folder_says_what_to_do(opened: Opener, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiscoveryUnavailable, match="set DYN_FILE_KV to a folder") as raised:
        await opened(DYN_FILE_KV=str(tmp_path / "file" / "kv"))
    assert str(tmp_path / "file" / "kv") in str(raised.value)
    assert our_threads() == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
async def test_a_read_only_folder_says_what_to_do(opened: Opener, folder: Path) -> None:
    os.mkdir(folder, mode=0o500)
    with pytest.raises(DiscoveryUnavailable, match="DYN_FILE_KV"):
        await opened()


async def test_a_wrong_ttl_names_its_variable(opened: Opener) -> None:
    with pytest.raises(SettingsError, match="DYN_FILE_TTL"):
        await opened(DYN_FILE_TTL="soon")


async def test_the_default_folder_must_be_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stranger = os.getuid() + 12345
    monkeypatch.setattr(os, "getuid", lambda: stranger)
    (tmp_path / f"reqplane-{stranger}").mkdir()  # by the user that we are no more
    with pytest.raises(DiscoveryUnavailable, match="DYN_FILE_KV") as raised:
        await FileDiscovery.open(FakeHost({}))
    assert "belongs to user" in str(raised.value)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give folders away")
@pytest.mark.parametrize("linked", [False, True])
async def test_a_default_folder_of_a_stranger_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ours, theirs = tmp_path / f"reqplane-{os.getuid()}", tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    if linked:
        ours.symlink_to(theirs)
    else:
        theirs.rename(ours)
    with pytest.raises(DiscoveryUnavailable, match=r"belongs to user 12345.*DYN_FILE_KV"):
        await FileDiscovery.open(FakeHost({}))


async def test_the_default_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    discovery = await FileDiscovery.open(FakeHost({}))
    await discovery.aclose()
    assert mode(tmp_path / f"reqplane-{os.getuid()}") == 0o700


async def test_the_default_folder_is_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ours = tmp_path / f"reqplane-{os.getuid()}"
    ours.mkdir()
    ours.chmod(0o777)
    discovery = await FileDiscovery.open(FakeHost({}))
    await discovery.aclose()
    assert mode(ours) == 0o700


async def test_a_folder_that_was_named_keeps_its_mode(opened: Opener, folder: Path) -> None:
    """Users of several accounts may share it."""
    folder.mkdir()
    folder.chmod(0o770)
    await opened()
    assert mode(folder) == 0o770


async def test_it_says_where_it_looks(opened: Opener, folder: Path) -> None:
    assert (await opened()).where == f"the folder {folder}"
    assert (await opened("mem")).where == "this process"


async def test_forgotten_drafts_are_swept(opened: Opener, folder: Path) -> None:
    await opened()
    for name, age in (("old", 7200), ("new", 0)):
        draft = folder / "v1" / "drafts" / name
        draft.write_text("{")
        aged(draft, age)
    await opened()
    assert os.listdir(folder / "v1" / "drafts") == ["new"]


# ── locks and numbers ───────────────────────────────────────────────────────────────────────────────


async def test_the_lock_survives_renaming_and_reading(opened: Opener, watching: Watcher) -> None:
    discovery = await opened()
    seen = await watching(discovery, GENERATE)
    registration = await discovery.reserve(GENERATE, 11)
    for n in range(20):
        await registration.publish(record(GENERATE, 0, 11, f"a:{n}"))
        await asyncio.sleep(0.02)
    await seen.until(lambda seen: [i.transport for i in seen.now.values()] == [{"tcp": "a:19"}])
    assert (await (await opened()).reserve(GENERATE, 22)).instance_id == 1
    assert all(change.up for change in seen.changes)


def _shared(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def test_a_prober_does_not_cost_a_number(place: Folder) -> None:
    prober = _shared(Path(place.locks) / NAME)
    release = threading.Timer(0.015, os.close, [prober])
    release.start()
    slot = reserve(place, GENERATE, TTL)
    release.join()
    assert slot.number == 0
    slot.free()


def test_patience_with_probers_ends(place: Folder) -> None:
    prober = _shared(Path(place.locks) / NAME)
    slot = reserve(place, GENERATE, TTL)
    assert slot.number == 1
    slot.free()
    os.close(prober)


def test_a_held_number_is_passed_over_at_once(place: Folder) -> None:
    holders = [reserve(place, GENERATE, TTL) for _ in range(100)]
    begun = time.monotonic()
    last = reserve(place, GENERATE, TTL)
    assert last.number == 100
    assert time.monotonic() - begun < 100 * 0.05  # no waiting for any of them
    for slot in [*holders, last]:
        slot.free()


def test_constant_probing_does_not_cost_a_number(place: Folder) -> None:
    stop = threading.Event()

    def probe() -> None:
        while not stop.is_set():
            place.is_orphan(NAME)
            time.sleep(0.0005)

    probers = [threading.Thread(target=probe) for _ in range(3)]
    for prober in probers:
        prober.start()
    numbers: set[int] = set()
    for _ in range(100):
        slot = reserve(place, GENERATE, TTL)
        numbers.add(slot.number)
        slot.free()
    stop.set()
    for prober in probers:
        prober.join()
    assert numbers == {0}


@pytest.mark.parametrize("token", [b"another machine's", b""])
def test_what_lives_on_another_machine_is_taken(place: Folder, token: bytes) -> None:
    there = Path(place.records) / NAME
    there.write_bytes(encode_record(record(GENERATE, 0, 11)))
    (Path(place.locks) / NAME).write_bytes(token)
    scan = Scan(place, TTL, LOG)
    assert told(scan) == [(True, 11)]  # though nobody here holds its lock
    slot = reserve(place, GENERATE, TTL)
    assert slot.number == 1
    slot.free()

    aged(there, 2 * TTL)
    assert told(scan) == [(False, 11)]
    slot = reserve(place, GENERATE, TTL)
    assert slot.number == 0
    assert not there.exists()
    slot.free()


async def test_a_cancelled_reservation_is_given_back(opened: Opener) -> None:
    discovery = await opened()
    for _ in range(20):
        reserving = asyncio.ensure_future(discovery.reserve(GENERATE, 1))
        await asyncio.sleep(0)
        reserving.cancel()
        await asyncio.gather(reserving, return_exceptions=True)
    assert (await discovery.reserve(GENERATE, 1)).instance_id == 0


@pytest.mark.parametrize(("ttl", "wait"), [("6", 2.0), ("30", DYNAMO_TTL / 3)])
async def test_a_record_is_touched_every_third_of_the_ttl_and_often_enough_for_dynamo(
    opened: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch, ttl: str, wait: float
) -> None:
    """Read from how long the heartbeat's thread wants to wait; it waits less here."""
    waits: set[tuple[str, float | None]] = set()

    class Hurried(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.add((threading.current_thread().name, timeout))
            return super().wait(0.005)

    hurried = SimpleNamespace(Event=Hurried, Thread=threading.Thread)
    monkeypatch.setattr("reqplane.discovery.ticker.threading", hurried)
    discovery = await opened(DYN_FILE_TTL=ttl)
    registration = await discovery.reserve(GENERATE, 11)
    await registration.publish(record(GENERATE, 0, 11))
    there = folder / "v1" / "instances" / NAME
    for _ in range(3):
        aged(there, 20)
        await eventually(lambda: time.time() - there.stat().st_mtime < 10)
    assert waits == {("reqplane-file-beat", wait)}


# ── losing a place ──────────────────────────────────────────────────────────────────────────────────


async def test_a_vanished_record_is_noticed_and_renewed(
    opened: Opener, watching: Watcher, folder: Path
) -> None:
    discovery = await opened(DYN_FILE_TTL="1")
    seen = await watching(await opened(), GENERATE)
    registration = await discovery.reserve(GENERATE, 11)
    await registration.publish(record(GENERATE, 0, 11))
    await seen.until(lambda seen: seen.now)
    (folder / "v1" / "instances" / NAME).unlink()
    await lost(registration.lost)
    await seen.until(lambda seen: not seen.now)
    with pytest.raises(LeaseLost):
        await registration.publish(record(GENERATE, 0, 11))

    await registration.renew()
    assert not registration.lost.done()
    assert registration.instance_id == 0
    await registration.publish(record(GENERATE, 0, 11))
    await seen.until(lambda seen: seen.incarnations == {11})


async def test_a_record_replaced_by_another_is_left_alone(
    opened: Opener, folder: Path, tmp_path: Path
) -> None:
    discovery = await opened(DYN_FILE_TTL="1")
    registration = await discovery.reserve(GENERATE, 11)
    await registration.publish(record(GENERATE, 0, 11))
    (tmp_path / "other").write_bytes(encode_record(record(GENERATE, 0, 22)))
    there = folder / "v1" / "instances" / NAME
    os.replace(tmp_path / "other", there)
    await lost(registration.lost)
    await registration.withdraw()
    assert b'"incarnation":22' in there.read_bytes()


async def test_a_lost_place_is_closed_all_the_same(opened: Opener, folder: Path) -> None:
    discovery = await opened(DYN_FILE_TTL="1")
    registration = await discovery.reserve(GENERATE, 11)
    await registration.publish(record(GENERATE, 0, 11))
    (folder / "v1" / "instances" / NAME).unlink()
    await lost(registration.lost)
    await discovery.aclose()
    slot = reserve(Folder(str(folder), private=False), GENERATE, TTL)
    assert slot.number == 0  # its lock was given back
    slot.free()


def _garbage(there: Path) -> None:
    there.write_bytes(b"\xff" * 100)


INTRUDERS: dict[str, Callable[[Path], object]] = {
    "garbage": _garbage,
    "a link": lambda there: there.symlink_to("/etc/passwd"),
    "a link to itself": lambda there: there.symlink_to(there.name),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
}


@pytest.mark.parametrize("intrude", INTRUDERS.values(), ids=INTRUDERS)
async def test_what_takes_a_records_place_costs_the_worker_little(
    opened: Opener, watching: Watcher, folder: Path, intrude: Callable[[Path], object]
) -> None:
    discovery = await opened(DYN_FILE_TTL="1")
    seen = await watching(await opened(), GENERATE)
    registration = await discovery.reserve(GENERATE, 11)
    await registration.publish(record(GENERATE, 0, 11))
    await seen.until(lambda seen: seen.now)
    there = folder / "v1" / "instances" / NAME
    there.unlink()
    intrude(there)
    await lost(registration.lost)
    await registration.renew()
    number = 1 if intrude is Path.mkdir else 0  # a folder we don't remove
    assert registration.instance_id == number
    await registration.publish(record(GENERATE, number, 11))
    await seen.until(lambda seen: set(seen.now) == {(GENERATE, number)})


@pytest.mark.parametrize("intrude", INTRUDERS.values(), ids=INTRUDERS)
def test_what_takes_a_locks_place_costs_a_number_at_most(
    place: Folder, tmp_path: Path, intrude: Callable[[Path], object]
) -> None:
    intrude(Path(place.locks) / NAME)
    assert not place.is_orphan(NAME)
    slot = reserve(place, GENERATE, TTL)
    assert slot.number == (0 if intrude is _garbage else 1)
    slot.free()


def test_a_link_in_a_locks_place_is_not_followed(place: Folder, tmp_path: Path) -> None:
    """Else whoever may write to the folder could have another user's files emptied."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (Path(place.locks) / NAME).symlink_to(precious)
    slot = reserve(place, GENERATE, TTL)
    assert slot.number == 1
    assert precious.read_text() == "precious"
    slot.free()


@pytest.mark.parametrize("intrude", [os.mkfifo, Path.mkdir], ids=["a pipe", "a folder"])
async def test_what_takes_the_clocks_place_is_told(
    opened: Opener, folder: Path, intrude: Callable[[Path], object]
) -> None:
    (folder / "v1").mkdir(parents=True)
    intrude(folder / "v1" / "clock")
    with pytest.raises(DiscoveryUnavailable, match="can't be used"):
        await opened()


async def test_a_removed_folder_is_empty_and_comes_back(
    opened: Opener, watching: Watcher, folder: Path
) -> None:
    discovery = await opened(DYN_FILE_TTL="1")
    seen = await watching(discovery, None)
    first, second = [await discovery.reserve(GENERATE, n) for n in (11, 22)]
    await first.publish(record(GENERATE, 0, 11))
    await seen.until(lambda seen: seen.now)
    shutil.rmtree(folder)
    await seen.until(lambda seen: not seen.now)
    await lost(first.lost)
    await lost(second.lost)  # never published, but its number is not safe any more
    for registration, incarnation in ((first, 11), (second, 22)):
        await registration.renew()
        await registration.publish(record(GENERATE, registration.instance_id, incarnation))
    await seen.until(lambda seen: seen.incarnations == {11, 22})


async def test_publishing_makes_a_removed_folder_again(
    opened: Opener, watching: Watcher, folder: Path
) -> None:
    discovery = await opened(DYN_FILE_TTL="1000")  # so that no heartbeat comes in between
    seen = await watching(discovery, None)
    registration = await discovery.reserve(GENERATE, 11)
    await asyncio.sleep(0.3)  # past the first heartbeat
    shutil.rmtree(folder)
    await registration.publish(record(GENERATE, 0, 11))
    await seen.until(lambda seen: seen.incarnations == {11})
    assert (await (await opened()).reserve(GENERATE, 22)).instance_id == 1

    shutil.rmtree(folder)
    thief = await (await opened()).reserve(GENERATE, 33)
    assert thief.instance_id == 0
    with pytest.raises(LeaseLost, match="taken by another"):
        await registration.publish(record(GENERATE, 0, 11))


async def test_a_program_that_forgets_to_close_can_end(folder: Path) -> None:
    code = (
        "import asyncio, sys; sys.path.insert(0, sys.argv[1])\n"
        "from core.discovery.world import FakeHost, GENEROUS\n"
        "from reqplane.discovery.file import FileDiscovery\n"
        "from reqplane.model import EndpointId\n"
        "async def main():\n"
        "    discovery = await FileDiscovery.open(FakeHost({'DYN_FILE_KV': sys.argv[2]}))\n"
        "    await discovery.reserve(EndpointId('a', 'b', 'c'), 1)\n"
        "    async for _ in discovery.watch(None): break\n"
        "asyncio.run(main())\n"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(Path(__file__).parents[2]), str(folder)
    )
    assert await asyncio.wait_for(child.wait(), GENEROUS) == 0


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_number_used_again_between_two_looks_is_down_and_up(place: Folder) -> None:
    scan = Scan(place, TTL, LOG)
    former = published(place, 11)
    assert told(scan) == [(True, 11)]
    former.free()
    successor = published(place, 22)
    assert told(scan) == [(False, 11), (True, 22)]
    successor.free()


def test_touching_tells_nothing_and_writing_again_does(place: Folder) -> None:
    scan = Scan(place, TTL, LOG)
    slot = published(place, 11)
    assert told(scan) == [(True, 11)]
    assert slot.touch()
    assert told(scan) == []
    slot.write(encode_record(record(GENERATE, 0, 11, "b:2")))
    assert told(scan) == [(True, 11)]
    slot.free()
    assert told(scan) == [(False, 11)]


def test_who_lost_its_lock_stays_dead(place: Folder) -> None:
    scan = Scan(place, TTL, LOG)
    slot = published(place, 11)
    assert told(scan) == [(True, 11)]
    assert slot._lock is not None
    os.close(slot._lock)  # as the kernel does when a worker is killed: the record stays
    slot._lock = None
    assert told(scan) == [(False, 11)]
    successor = os.open(Path(place.locks) / NAME, os.O_RDWR)
    fcntl.flock(successor, fcntl.LOCK_EX)  # it has the number, and has not yet removed the record
    assert told(scan) == []
    os.close(successor)
    slot.free()


def test_a_stamp_in_the_future_wears_off(place: Folder) -> None:
    scan = Scan(place, 0.3, LOG)
    there = Path(place.records) / NAME
    there.write_bytes(encode_record(record(GENERATE, 0, 11)))
    aged(there, -86400)
    assert len(scan.look()) == 1
    time.sleep(0.5)
    assert [change.up for change in scan.look()] == [False]


async def test_dynamos_file_is_read(opened: Opener, watching: Watcher, records: Path) -> None:
    (records / DYNAMO_FILE).write_text(DYNAMO_RECORD)
    seen = await watching(await opened(DYN_FILE_TTL="2"), GENERATE)
    (instance,) = seen.now.values()
    assert instance.instance_id == instance.incarnation == 0x43B7BCEDD4BE931F
    assert instance.planes == ("tcp",)
    aged(records / DYNAMO_FILE, 4)
    await asyncio.sleep(0.5)
    assert seen.now  # Dynamo touches it every 3.3 s, whatever our TTL is
    aged(records / DYNAMO_FILE, DYNAMO_TTL - 0.5)
    await seen.until(lambda seen: not seen.now)


async def test_dynamos_dead_are_not_on_the_first_list(
    opened: Opener, watching: Watcher, records: Path
) -> None:
    (records / DYNAMO_FILE).write_text(DYNAMO_RECORD)
    aged(records / DYNAMO_FILE, 60)
    seen = await watching(await opened(), GENERATE)
    assert seen.first == []
    os.utime(records / DYNAMO_FILE)
    await seen.until(lambda seen: seen.now)


async def test_junk_is_skipped_with_one_warning(
    opened: Opener, watching: Watcher, records: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (records / NAME).write_text('{"transport": ')
    (records / "rubbish").write_text("{}")
    (records / "large%2Fb%2Fc%2F0").write_text(" " * 100_000)
    (records / ".hidden").write_text("")
    (records / "folder").mkdir()
    os.mkfifo(records / "pipe")
    (records / "link").symlink_to(records / NAME)
    good = instance_name(GENERATE, 7)
    (records / good).write_bytes(encode_record(record(GENERATE, 7, 77)))
    seen = await watching(await opened(), None)
    assert seen.incarnations == {77}

    def warnings() -> list[str]:
        return [entry.getMessage() for entry in caplog.records]

    assert len(warnings()) == 6
    assert sum(f"{NAME}'" in text for text in warnings()) == 1
    for name in (NAME, "folder", "pipe"):
        os.utime(records / name)
    (records / "folder" / "file").write_text("")
    (records / "rubbish").write_text("[]")
    await eventually(lambda: len(warnings()) == 7)
    await asyncio.sleep(0.6)
    assert len(warnings()) == 7
    for kind in ("folder", "pipe", "symbolic link"):
        assert sum(f"wanted a plain file, found a {kind}" in text for text in warnings()) == 1
    (records / NAME).write_bytes(encode_record(record(GENERATE, 0, 11)))
    await seen.until(lambda seen: seen.incarnations == {77, 11})


_GUIDE_LIKE = NAME.encode()
BROKEN: dict[str, tuple[bytes, bytes]] = {
    "empty": (_GUIDE_LIKE, b""),
    "binary": (_GUIDE_LIKE, b"\xff\xfe\0" * 100),
    "10 MB": (_GUIDE_LIKE, b'{"transport":{"tcp":"' + b"x" * 10_000_000),
    "deep": (_GUIDE_LIKE, b'{"transport":' * 5000),
    "huge number": (_GUIDE_LIKE, b'{"transport":{},"capacity":' + b"9" * 10_000 + b"}"),
    "infinite": (_GUIDE_LIKE, b'{"transport":{"a":1e999}}'),
    "wrong type": (_GUIDE_LIKE, b'{"transport":{},"planes":"\\u001b[2J"}'),
    "another's": (_GUIDE_LIKE, b'{"transport":{},"namespace":"other"}'),
    "dynamo, a model": (DYNAMO_FILE.encode(), b'{"type":"Model","transport":{}}'),
    "dynamo, wrong id": (DYNAMO_FILE.encode(), b'{"transport":{"tcp":"a:1"},"instance_id":1}'),
    "dynamo, no transport": (DYNAMO_FILE.encode(), b'{"transport":"tcp"}'),
    "dots": (b"a%2F..%2F..%2F0", b'{"transport":{}}'),
    "encoded slash": (b"a%2Fb%252Fc%2Fd%2F0", b'{"transport":{}}'),
    "wildcards": (b"*%2Fb%2F>%2F0", b'{"transport":{}}'),
    "NUL": (b"a%00%2Fb%2Fc%2F0", b'{"transport":{}}'),
    "a part of 129": (b"a%2Fb%2F" + b"c" * 129 + b"%2F0", b'{"transport":{}}'),
    "escape sequence": (b"a%2Fb\x1b[2J\r\n%2Fc%2F0", b'{"transport":{}}'),
    "not UTF-8": (b"a%2Fb\xff%2Fc%2F0", b'{"transport":{}}'),
}


@pytest.mark.parametrize(("name", "content"), BROKEN.values(), ids=BROKEN)
def test_a_broken_record_is_told_of_once_and_hurts_no_other(
    place: Folder, name: bytes, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    scan = Scan(place, TTL, LOG)
    there = os.path.join(os.fsencode(place.records), name)
    Path(os.fsdecode(there)).write_bytes(content)
    good = reserve(place, EMBED, TTL)
    good.write(encode_record(record(EMBED, good.number, 77)))
    assert told(scan) == [(True, 77)]
    for _ in range(3):
        os.utime(there)
        assert told(scan) == []
    (warning,) = [entry.getMessage() for entry in caplog.records]
    assert warning.isprintable()
    assert len(warning) < 1500
    good.free()


def test_a_file_that_may_not_be_read_is_told_of_once(
    place: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scan = Scan(place, TTL, LOG)
    there, slot = Path(place.records) / NAME, published(place, 11)
    assert told(scan) == [(True, 11)]

    def forbidden(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    with monkeypatch.context() as patched:  # root may read everything
        patched.setattr("reqplane.discovery.scan.open_plain", forbidden)
        os.utime(there)
        assert told(scan) == [(False, 11)]
        os.utime(there)
        assert told(scan) == []
    assert caplog.text.count("Permission denied") == 1
    os.utime(there)
    assert told(scan) == [(True, 11)]
    slot.free()


def test_a_pipe_that_takes_a_records_place_holds_nobody_up(place: Folder) -> None:
    """Even if it comes between looking at the name and opening it."""
    there = Path(place.records) / NAME
    os.mkfifo(there)
    with pytest.raises(OSError, match="not a plain file"):
        read_record(str(there))
    there.unlink()
    there.symlink_to("/dev/zero")
    with pytest.raises(OSError):  # noqa: PT011  (the system's own words)
        read_record(str(there))


def test_a_clock_that_jumps_drops_nobody_who_is_touched(place: Folder) -> None:
    """The system's clock is set while workers live: their next touch has another time, no more."""
    scan = Scan(place, TTL, LOG)
    there, slot = Path(place.records) / NAME, published(place, 11)
    assert told(scan) == [(True, 11)]
    for jump in (3600.0, -3600.0, 86400.0 * 365 * 60):
        place.now = lambda jump=jump: time.time() + jump  # type: ignore[method-assign]
        assert told(scan) == []
        aged(there, -jump)
        assert told(scan) == []
    slot.free()


async def test_watches_share_one_thread(opened: Opener, watching: Watcher) -> None:
    discovery = await opened()
    await discovery.reserve(GENERATE, 1)
    for _ in range(5):
        await watching(discovery, None)
    assert sorted(name.rsplit("_")[0] for name in our_threads()) == [
        "reqplane-file-beat",
        "reqplane-file-disk",
        "reqplane-file-poll",
    ]


async def test_trouble_with_the_folder_is_told_once_and_survived(
    opened: Opener, watching: Watcher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    discovery = await opened()
    seen = await watching(discovery, None)
    registration = await discovery.reserve(GENERATE, 11)
    await registration.publish(record(GENERATE, 0, 11))
    await seen.until(lambda seen: seen.now)

    def broken(path: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("reqplane.discovery.scan.os.scandir", broken)
        await eventually(lambda: "Too many open files" in caplog.text)
        await asyncio.sleep(0.6)
    assert caplog.text.count("Too many open files") == 1
    assert [change.up for change in seen.changes] == [True]  # not knowing is no reason to drop anybody
    await registration.withdraw()
    await seen.until(lambda seen: not seen.now)
