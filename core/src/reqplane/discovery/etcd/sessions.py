"""One thread that talks to etcd: a client after another, for as long as the runtime lives.

A session is one client's time: connect to the next member, keep the lease, list, watch from where the last
watch stopped, do what is asked, and look now and then whether the watch tells everything.  Whatever goes
wrong ends it, and the next begins a moment later.  What is asked for meanwhile waits.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

from reqplane.discovery.etcd.beats import Beats
from reqplane.discovery.etcd.doubt import Doubt
from reqplane.discovery.etcd.jobs import Job
from reqplane.discovery.etcd.picture import Picture
from reqplane.discovery.etcd.registry import Registry
from reqplane.discovery.etcd.seam import (
    Client,
    Compacted,
    Denied,
    EtcdError,
    Heard,
    LeaseGone,
    Listing,
    Refused,
    Unreachable,
)
from reqplane.errors import DiscoveryUnavailable, ReqplaneError
from reqplane.model import Change
from reqplane.wire.records import PREFIX

_PAUSES = (0.1, 0.25, 0.5, 1.0)
"""Seconds before the next session, by how many have failed in a row."""
_LEAVE = 0.6
"""Seconds for leaving in order."""


class Connected(Client, Protocol):
    """A client as sessions make it."""

    def connect(self) -> None: ...

    def join(self, limit: float) -> None: ...


Connect: TypeAlias = Callable[[int, int], Connected]
"""Makes the client of the n-th session, the m-th that failed in a row before it; connects to nothing yet."""


class Listener(Protocol):
    """Who hears of it; called in the thread."""

    def changed(self, changes: list[Change], listed: bool) -> None:
        """`listed`: this is the first listing."""
        ...


class Sessions:
    """The thread.  `state` says why there is no session, "" if there is one; read from anywhere."""

    def __init__(
        self,
        connect: Connect,
        ttl: int,
        listener: Listener,
        where: str,
        log: logging.Logger,
        registry: Registry | None = None,
    ) -> None:
        self._connect, self._ttl, self._listener, self._where, self._log = connect, ttl, listener, where, log
        self.state = "it was not asked yet"
        self.first: Future[None] = Future()
        """Done with the first session; fails if etcd does not let us in."""
        self._registry = registry or Registry(ttl)
        self._picture = Picture(ttl, lambda text: log.warning("%s: %s", where, text))
        self._doubt = Doubt(ttl)
        self._listed = False
        self._inbox: queue.SimpleQueue[tuple[int, Job | Heard | EtcdError | None]] = queue.SimpleQueue()
        self._jobs: deque[Job] = deque()
        self._number = 0
        self._failures = 0  # in a row
        self._client: Connected | None = None
        self._closing = False
        self._away_since, self._told_away = 0.0, False
        self._relists = False  # the watch could not be resumed
        self._thread = threading.Thread(target=self._run, name="reqplane-etcd", daemon=True)

    # ── called from the event loop ──────────────────────────────────────────────────────────────────

    def start(self) -> None:
        self._thread.start()

    def ask(self, job: Job) -> None:
        self._inbox.put((0, job))

    def stop(self) -> None:
        """Leave in order if that is possible at once, and end; blocks for a second at most."""
        self._closing = True
        self._inbox.put((0, None))
        self._thread.join(_LEAVE)
        if (client := self._client) is not None:
            client.close()  # whatever the thread waits for fails now
        self._thread.join(0.4)

    # ── the thread ──────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        while not self._closing:
            self._number += 1
            try:
                self._session()
            except EtcdError as error:
                self._away(error)
            except Exception as error:  # a defect: it must not end the thread
                self._log.exception("%s: trying again", self._where)
                self._away(Unreachable(f"{type(error).__name__}: {error}"))
            finally:
                self._end_client()
            self._wait(_PAUSES[min(self._failures, len(_PAUSES) - 1)])
            self._failures += 1
        self._drop_jobs()

    def _session(self) -> None:
        client = self._client = self._connect(self._number - 1, self._failures)
        if self._closing:
            return
        client.connect()
        self._registry.keep(client)  # first of all: it may have little time left
        listing = self._list(client)
        check = self._begin(client, listing)
        self._here()
        beats = Beats(self._ttl, check)
        while not self._closing:
            self._do_jobs(client, beats)
            if beats.keep.is_due():
                self._registry.keep(client)
            if beats.check.is_due():
                beats.compare_with(self._list(client))
                if self._relists:
                    raise Unreachable("its data was lost")
            if beats.listing is not None and beats.compare.is_due():
                self._compare(beats, beats.listing)
            self._take_in(client, 0.0 if self._jobs else beats.next())
        self._registry.leave(client)

    def _list(self, client: Client) -> Listing:
        listing = client.list(PREFIX)
        self._doubt.heard(time.monotonic())
        self._registry.look(listing)
        if self._listed and listing.revision < self._picture.revision:
            self._log.warning("%s has lost its data, listing anew", self._where)
            self._doubt.arise(time.monotonic())
            self._relist(listing)
            self._relists = True  # what a watch that has begun already tells belongs to another history
        return listing

    def _begin(self, client: Client, listing: Listing) -> Listing | None:
        """Start the watch; the listing that it must be compared with, if it goes on from an earlier one."""
        number = self._number

        def tell(what: Heard | EtcdError) -> None:
            self._inbox.put((number, what))

        if self._listed and not self._relists:
            client.watch(PREFIX, self._picture.revision + 1, tell)
            return listing
        self._relist(listing)
        client.watch(PREFIX, listing.revision + 1, tell)
        return None

    def _relist(self, listing: Listing) -> None:
        self._relists = False
        changes = self._picture.take(listing, self._doubt.holds(time.monotonic()))
        first, self._listed = not self._listed, True
        if changes or first:
            self._listener.changed(changes, first)

    def _compare(self, beats: Beats, listing: Listing) -> None:
        """Does the watch tell everything?  One with an expired token tells nothing, for ever."""
        beats.listing = None
        if not self._picture.differs(listing):
            self._picture.agrees(listing)
            beats.resumed = False
            return
        late = self._picture.revision < listing.revision
        # The next goes on from where this one was; if that did not help, or it told something else, anew.
        self._relists = not late or beats.resumed
        raise Unreachable("the watch did not tell everything")

    def _do_jobs(self, client: Client, beats: Beats) -> None:
        while self._jobs and beats.next() > 0:
            job = self._jobs[0]
            if job.lasting or not job.answer.cancelled():
                try:
                    job.tell(job.work(client, self._registry))
                except ReqplaneError as error:
                    job.fail(error)
                except (Refused, Denied) as error:
                    job.fail(DiscoveryUnavailable(f"{self._where}: {error.reason}"))
                except LeaseGone:
                    self._registry.lose()
                    continue
            self._jobs.popleft()

    def _take_in(self, client: Client, limit: float) -> None:
        """Wait for something, and take in all that there is."""
        happenings: list[Any] = []
        for number, what in self._arrived(limit):
            if isinstance(what, Job):
                self._jobs.append(what)
            elif number == self._number and isinstance(what, Heard):
                self._doubt.heard(time.monotonic())
                happenings += what.happenings
            elif number == self._number and isinstance(what, EtcdError):
                self._hear(client, happenings)
                if isinstance(what, Compacted):
                    self._log.warning("%s: %s, listing anew", self._where, what.reason)
                    self._relists = True
                raise what
        self._hear(client, happenings)

    def _arrived(self, limit: float) -> Iterator[tuple[int, Any]]:
        with suppress(queue.Empty):
            yield self._inbox.get(timeout=max(limit, 0.0))
            while True:
                yield self._inbox.get_nowait()

    def _hear(self, client: Client, happenings: list[Any]) -> None:
        if not happenings:
            return
        lost = self._registry.lost_in(happenings)
        changes = self._picture.hear(happenings, self._doubt.holds(time.monotonic()))
        if changes:
            self._listener.changed(changes, False)
        if lost:
            self._registry.keep(client)  # the key alone, or the lease with everything?

    # ── between sessions ────────────────────────────────────────────────────────────────────────────

    def _here(self) -> None:
        if self._told_away:
            self._log.warning("%s is back after %.1f s", self._where, time.monotonic() - self._away_since)
        self.state, self._told_away, self._away_since, self._failures = "", False, 0.0, 0
        with suppress(InvalidStateError):
            self.first.set_result(None)

    def _away(self, error: EtcdError) -> None:
        if self._closing:
            return
        self.state = error.reason
        if isinstance(error, Denied):
            with suppress(InvalidStateError):
                self.first.set_exception(error)
        if not self._away_since:
            self._away_since = time.monotonic()
        if not self._told_away and self._failures:  # one is nothing: a token expired, a member was lost
            self._told_away = True
            meanwhile = ", with what is known so far" if self._listed else ""
            self._log.warning("%s: %s; trying on%s", self._where, error.reason, meanwhile)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._closing and (left := until - time.monotonic()) > 0:
            for _, what in self._arrived(left):
                if isinstance(what, Job):
                    self._jobs.append(what)

    def _end_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
            client.join(0.5)

    def _drop_jobs(self) -> None:
        self._jobs += [what for _, what in self._arrived(0) if isinstance(what, Job)]
        for job in self._jobs:
            job.fail(DiscoveryUnavailable("this discovery backend is closed"))
