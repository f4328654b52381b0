"""What becomes of calls while etcd fails under them.

A frontend has 50 calls in flight all the time, to three workers, each a process of its own that was given
environment variables only.  Then something happens to etcd, or to a worker.  No call may fail that a worker
could have answered, nobody is started again, and soon after etcd's return all workers stand in it.

The short tests use leases of 2 s, the slow ones those that users have.  The table in docs/failures.md is
what this prints:

    python -m pytest tests/system/test_etcd_failures.py -m slow -s
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from etcd_trial import EtcdTrial, Scale
from fleet import PATH
from ports import free_port
from servers import Etcd, Nats

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        not (find_spec("etcd3") and find_spec("reqplane.discovery.etcd")), reason="needs reqplane[etcd]"
    ),
]

SHORT, FULL = Scale(ttl=2, away=4, pace=0.5), Scale(ttl=10, away=20)
SCALES = [pytest.param(SHORT, id="short"), pytest.param(FULL, id="full", marks=pytest.mark.slow)]


def finish(trial: EtcdTrial) -> None:
    print(f"\n{trial.results.text()}")
    trial.end()


@pytest.fixture(scope="module", params=SCALES)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdTrial]:
    """One for all tests that leave it as they found it."""
    folder = tmp_path_factory.mktemp("trial")
    etcd = Etcd(folder / "etcd").start()
    trial = EtcdTrial(folder, etcd, request.param, {})
    try:
        trial.begin()
        yield trial
        finish(trial)
    finally:
        trial.close()
        etcd.close()


@pytest.fixture
def trial(shared: EtcdTrial) -> EtcdTrial:
    shared.settle()
    return shared


# ── etcd is away ──


def test_etcd_is_killed(trial: EtcdTrial):
    kill_etcd(trial)


def kill_etcd(trial: EtcdTrial) -> None:
    everybody, scale = trial.settle(), trial.scale
    before = trial.leases()
    with trial.case(f"etcd killed for {scale.away:g} s") as case:
        trial.etcd.kill()
        time.sleep(scale.away)
        trial.etcd.start()
        case.registered = trial.registered(time.monotonic(), everybody, watched=scale.ttl + 1)
        case.note = f"{len(trial.leases() - before)} of 3 leases are new"
    assert trial.settle() == everybody


def test_etcd_is_frozen_and_deletes_all_keys_when_it_thaws(trial: EtcdTrial):
    everybody, scale = trial.settle(), trial.scale
    before = trial.leases()
    with trial.case(f"etcd frozen for {scale.away:g} s") as case:
        trial.etcd.freeze()
        time.sleep(scale.away)
        trial.etcd.thaw()
        case.registered = trial.registered(time.monotonic(), everybody, watched=scale.ttl + 1)
        case.note = f"{len(trial.leases() - before)} of 3 leases are new"
    assert trial.settle() == everybody


def test_all_data_is_wiped(trial: EtcdTrial):
    everybody, scale = trial.settle(), trial.scale
    with trial.case("etcd killed, its data wiped, started") as case:
        trial.etcd.kill()
        trial.etcd.wipe()
        trial.etcd.start()
        case.registered = trial.registered(time.monotonic(), everybody, watched=scale.ttl + 1)
    assert trial.settle() == everybody


def test_the_watch_comes_back_to_a_revision_that_was_compacted(trial: EtcdTrial):
    """While nobody reaches it, for it is on another port, etcd is written to and forgets its past."""
    everybody, scale = trial.settle(), trial.scale
    with trial.case("etcd away for a moment, its history compacted") as case:
        etcd = trial.etcd
        etcd.kill()
        etcd.port, kept = free_port(), etcd.port
        etcd.start()
        for number in range(5):
            trial.ctl("put", "something/else", str(number))
        header = trial.ctl("get", "something/else", "-w", "fields")
        revision = next(line.split()[-1] for line in header.splitlines() if line.startswith('"Revision"'))
        trial.ctl("compact", revision)
        etcd.kill()
        etcd.port = kept
        etcd.start()
        case.registered = trial.registered(time.monotonic(), everybody, watched=scale.ttl + 1)
    assert trial.settle() == everybody
    assert "is forgotten, listing anew" in trial.logged(trial.traffic)


# ── by hand ──


def test_a_lease_is_revoked_by_hand(trial: EtcdTrial):
    everybody = trial.settle()
    with trial.case("a worker's lease revoked by hand") as case:
        trial.ctl("lease", "revoke", trial.entries()[1][1])
        case.registered = trial.registered(time.monotonic(), everybody, watched=2)
    assert trial.settle() == everybody


def test_all_keys_are_deleted_by_hand(trial: EtcdTrial):
    everybody = trial.settle()
    with trial.case("all keys deleted by hand") as case:
        trial.ctl("del", "--prefix", "v1/instances/")
        case.registered = trial.registered(time.monotonic(), everybody, watched=2)
    assert trial.settle() == everybody


# ── workers ──


def test_a_worker_is_frozen(trial: EtcdTrial):
    """What it has taken it can't answer; nobody is sent to it any more once its lease has ended."""
    everybody, scale = trial.settle(), trial.scale
    with trial.case(f"a worker frozen for {scale.away:g} s") as case:
        victim = trial.workers[0]
        incarnation = trial.incarnation(victim)
        case.victims = {number for number, key in trial.now_known().items() if key == incarnation}
        victim.send_signal(signal.SIGSTOP)
        frozen = time.monotonic()
        gone = trial.until(lambda: incarnation not in trial.now_known().values(), within=scale.ttl + 5)
        time.sleep(max(0.0, frozen + scale.away - time.monotonic()))
        victim.send_signal(signal.SIGCONT)
        case.registered = trial.registered(time.monotonic(), everybody, watched=2)
        case.note = f"out of use after {gone - frozen:.1f} s"
    assert trial.settle() == everybody
    assert case.verdict is not None
    assert all(call.begin < gone for call in case.verdict.taken)


def test_each_worker_is_replaced_in_turn(trial: EtcdTrial):
    replace_workers(trial)


def replace_workers(trial: EtcdTrial) -> None:
    with trial.case("rolling restart: three workers replaced one by one"):
        for worker in list(trial.workers):
            trial.fresh_worker()
            trial.lose(worker, signal.SIGTERM)
            assert worker.returncode == 0, trial.logged(worker)
            trial.settle()


@pytest.mark.slow
def test_workers_come_and_go_while_etcd_is_away(trial: EtcdTrial):
    """One is killed, one leaves in order, two are started, and so is a frontend."""
    everybody, scale = trial.settle(), trial.scale
    with trial.case(f"workers killed, left and started, etcd away for {scale.away:g} s") as case:
        victim, leaver, stays = trial.workers
        killed, left, rest = map(trial.incarnation, trial.workers)
        case.victims = {number for number, key in trial.now_known().items() if key == killed}
        trial.etcd.kill()
        away = time.monotonic()
        trial.lose(victim, signal.SIGKILL)
        trial.worker()
        trial.worker()
        question = json.dumps({"id": f"asked-{scale.away:g}", "folder": str(trial.ran), "n": 1, "pause": 0})
        asked = trial.run("-m", "reqplane", "call", PATH, question)
        trial.lose(leaver, signal.SIGTERM)
        assert leaver.returncode == 0, trial.logged(leaver)
        time.sleep(max(0.0, away + scale.away - time.monotonic()))
        trial.etcd.start()
        back = time.monotonic()
        came = trial.until(lambda: len(set(trial.now_known().values()) - set(everybody)) == 2)
        case.note = f"the new ones are in use after {came - back:.1f} s"
        trial.until(lambda: not {killed, left} & set(trial.now_known().values()), within=scale.ttl + 5)
        assert rest in trial.settle()
        assert stays.poll() is None
    status, answer, complaint = asked.wait(20), trial.output(asked).read_text(), trial.logged(asked)
    assert (status, answer) == (0, "0\n") or (status == 1 and "ETCD_ENDPOINTS" in complaint), complaint


def test_all_workers_leave_in_order(trial: EtcdTrial):
    """They finish what they have; what is new is told at once that nobody is there."""
    since = time.monotonic()
    for worker in trial.workers:
        worker.send_signal(signal.SIGTERM)
    for worker in trial.workers:
        assert worker.wait(20) == 0, trial.logged(worker)
    left = time.monotonic()
    trial.workers.clear()
    emptied = trial.until(lambda: not trial.now_known())
    time.sleep(1)
    verdict = trial.verdict(since)
    told = [
        call for call in verdict.failed if call.error in {"NoInstances", "WorkerDraining", "CannotConnect"}
    ]
    verdict.failed = [call for call in verdict.failed if call not in told]
    waited = max((call.end or 0.0) - call.begin for call in told)
    note = (
        f"forgotten {max(0.0, emptied - left):.1f} s after the last one's end; {len(told)} calls that came "
        f"then were told that nobody is there, each within {waited:.2f} s"
    )
    trial.results.add("all workers leave in order", verdict, None, note)
    assert not verdict.failed, verdict.complaint()
    assert {call.error for call in told if call.begin > emptied} == {"NoInstances"}
    assert not trial.entries()
    for _ in range(3):
        trial.worker()
    trial.settle()


# ── others' etcds ──


@pytest.mark.parametrize("scale", SCALES)
def test_tokens_expire(tmp_path: Path, scale: Scale):
    """etcd forgets a login after 3 s."""
    etcd = Etcd(tmp_path / "etcd", arguments=["--auth-token-ttl", "3"]).start()
    etcd.ctl("user", "add", "root:secret")
    etcd.ctl("user", "grant-role", "root", "root")
    etcd.ctl("auth", "enable")
    login = {"ETCD_AUTH_USERNAME": "root", "ETCD_AUTH_PASSWORD": "secret"}
    trial = EtcdTrial(tmp_path, etcd, scale, login, user=["--user", "root:secret"])
    try:
        trial.begin()
        everybody = trial.settle()
        with trial.case(f"etcd's tokens last 3 s; after {scale.away:g} s a lease revoked") as case:
            time.sleep(scale.away)
            trial.ctl("lease", "revoke", trial.entries()[1][1])
            case.registered = trial.registered(time.monotonic(), everybody, watched=2)
            trial.fresh_worker()
        finish(trial)
    finally:
        trial.close()
        etcd.close()


@pytest.mark.slow
def test_the_same_over_nats(nats: Nats, tmp_path: Path):
    """Which plane carries the calls is nothing to etcd, nor to the frontend's patience with it."""
    etcd = Etcd(tmp_path / "etcd").start()
    plane = {"DYN_REQUEST_PLANE": "nats", "NATS_SERVER": nats.url}
    trial = EtcdTrial(tmp_path, etcd, FULL, plane)
    try:
        trial.begin()
        kill_etcd(trial)
        replace_workers(trial)
        finish(trial)
    finally:
        trial.close()
        etcd.close()


@pytest.mark.slow
def test_one_of_three_members_is_lost(tmp_path: Path):
    members = [Etcd(tmp_path / name) for name in "abc"]
    cluster = ",".join(f"{member.folder.name}=http://127.0.0.1:{member._peer}" for member in members)
    for member in members:
        member._arguments = ["--name", member.folder.name, "--initial-cluster", cluster]
    with ThreadPoolExecutor() as together:
        list(together.map(Etcd.start, members))
    urls = ",".join(member.url for member in members)
    trial = EtcdTrial(tmp_path, members[2], FULL, {"ETCD_ENDPOINTS": urls})
    try:
        trial.begin()
        everybody = trial.settle()
        for member in members[:2]:  # clients begin with the first, and one of them may lead
            with trial.case(f"one of three members killed for {FULL.away:g} s") as case:
                member.kill()
                case.registered = trial.registered(time.monotonic(), everybody, watched=FULL.away)
                member.start()
                assert trial.registered(time.monotonic(), everybody, watched=2) < 1
        finish(trial)
    finally:
        trial.close()
        for member in members:
            member.close()
