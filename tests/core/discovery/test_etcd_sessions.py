"""The thread that talks to etcd, with a client that does as it is told."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator

import pytest
from core.discovery.test_etcd_picture import GENERATE, FakeEtcd, put
from reqplane.discovery.etcd.jobs import Job
from reqplane.discovery.etcd.registry import Place
from reqplane.discovery.etcd.seam import Heard, Refused, Tell, Unreachable
from reqplane.discovery.etcd.sessions import Sessions
from reqplane.errors import DiscoveryUnavailable
from reqplane.model import Change

TTL = 2
PATIENCE = 20.0


class Scripted(FakeEtcd):
    """The client of every session, whose watches may say nothing; and who hears what becomes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Unreachable] = []
        self.connects = 0
        self.is_silent = False
        self.watched_from: list[int] = []
        self.heard: queue.Queue[tuple[list[Change], bool]] = queue.Queue()
        log = logging.getLogger("reqplane.test")
        self.sessions = Sessions(lambda number, failures: self, TTL, self, "etcd", log)

    def connect(self) -> None:
        self.connects += 1
        if self.failures:
            raise self.failures.pop(0)

    def watch(self, prefix: str, revision: int, tell: Tell) -> None:
        self.watched_from.append(revision)
        if not self.is_silent:
            tell(Heard(tuple(one for one in self.history if one.modified >= revision)))

    def close(self) -> None:
        pass

    def join(self, limit: float) -> None:
        pass

    def changed(self, changes: list[Change], listed: bool) -> None:
        self.heard.put((changes, listed))

    def incarnations(self) -> list[int]:
        """Those of the next batch."""
        changes, _ = self.heard.get(timeout=PATIENCE)
        return [change.instance.incarnation for change in changes]

    def put(self, number: int, incarnation: int) -> None:
        entry = put(number, incarnation, 1)
        self.leases.add(1)
        self.write(entry.key, entry.value, 1)


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.sessions.stop()
    assert "reqplane-etcd" not in [thread.name for thread in threading.enumerate()]


def test_a_silent_watch_is_noticed_and_goes_on_where_it_was(scripted: Scripted) -> None:
    scripted.put(0, 100)
    scripted.is_silent = True
    scripted.sessions.start()
    assert scripted.incarnations() == [100]
    scripted.put(1, 101)
    scripted.is_silent = False  # the next one speaks
    assert scripted.incarnations() == [101]
    assert len(scripted.watched_from) == 2
    assert scripted.watched_from[1] <= 3  # and not from the listing on


def test_when_that_does_not_help_it_lists_anew(scripted: Scripted) -> None:
    scripted.is_silent = True
    scripted.sessions.start()
    assert scripted.incarnations() == []
    scripted.put(0, 100)
    assert scripted.incarnations() == [100]
    assert len(scripted.watched_from) == 3


def test_what_is_asked_for_waits_for_a_session_that_works(scripted: Scripted) -> None:
    scripted.failures = [Unreachable("no"), Unreachable("no")]
    job = Job(lambda client, registry: registry.take(client, GENERATE, 7, None, lambda: None))
    scripted.sessions.ask(job)
    scripted.sessions.start()
    place: Place = job.answer.result(PATIENCE)
    assert place.number == 0
    assert scripted.connects == 3
    assert scripted.sessions.state == ""


def test_a_job_that_breaks_the_session_is_done_in_the_next(scripted: Scripted) -> None:
    attempts: list[int] = []

    def work(client: object, registry: object) -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise Unreachable("gone in the middle of it")
        return "done"

    job = Job(work)
    scripted.sessions.ask(job)
    scripted.sessions.start()
    assert job.answer.result(PATIENCE) == "done"
    assert scripted.connects == 2


def test_what_etcd_refuses_fails_alone(scripted: Scripted) -> None:
    def work(client: object, registry: object) -> None:
        raise Refused("the database is full")

    refused, fine = Job(work), Job(lambda client, registry: "fine")
    scripted.sessions.ask(refused)
    scripted.sessions.ask(fine)
    scripted.sessions.start()
    with pytest.raises(DiscoveryUnavailable, match="the database is full"):
        refused.answer.result(PATIENCE)
    assert fine.answer.result(PATIENCE) == "fine"
    assert scripted.connects == 1


def test_what_was_done_for_somebody_who_left_is_undone(scripted: Scripted) -> None:
    undone: list[str] = []
    job = Job(lambda client, registry: "a number", undo=undone.append)
    lasting = Job(lambda client, registry: "withdrawn", lasting=True, undo=undone.append)
    late = Job(lambda client, registry: "x")
    lasting.answer.cancel()
    for one in (job, lasting, late):
        scripted.sessions.ask(one)
    scripted.sessions.start()
    late.answer.result(PATIENCE)
    job.abandon()
    assert undone == ["withdrawn", "a number"]


def test_the_first_session_is_told_of(scripted: Scripted) -> None:
    scripted.sessions.start()
    scripted.sessions.first.result(PATIENCE)
    _, listed = scripted.heard.get(timeout=PATIENCE)
    assert listed
