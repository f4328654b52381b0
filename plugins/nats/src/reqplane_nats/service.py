"""Served endpoints as NATS sees them: a micro service for each component, found by $SRV.PING, INFO, STATS."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

from nats.micro.service import EndpointInfo, EndpointStats, ServiceInfo, ServicePing, ServiceStats
from reqplane.errors import InvalidFrame, RequestRefused, UnknownEndpoint
from reqplane.interfaces import Accept, Delivery
from reqplane.model import Body, EndpointId
from reqplane.wire.trace import carried

from reqplane_nats import answers, block
from reqplane_nats.cutter import Handler
from reqplane_nats.link import Link, Subscription
from reqplane_nats.target import service_name, subject_of

QUEUE = "q"
_VERSION = "0.1.0"
_DESCRIPTION = "an endpoint's worker, served by reqplane"


class Subject:
    """One subject and who serves it.

    Mostly one endpoint; but `a_b.c.x` and `a.b_c.x` have the same, and in one process both may be served.
    """

    def __init__(self, endpoint: EndpointId, incarnation: int, link: Link) -> None:
        self.name = subject_of(endpoint, incarnation)
        self.title = f"{service_name(endpoint)}-{endpoint.name}-{incarnation:x}"
        self.accepts: list[Accept] = []
        self.staying = 0
        """How many of them have not been asked to leave."""
        self.subscription: Subscription | None = None
        self.requests = self.errors = self.nanoseconds = 0
        self.last_error = ""
        self._link = link
        self._log = link.log

    def arrived(self, subject: bytes, reply: bytes, head: bytes, payload: Body) -> None:
        """A frame: accept it, then ack it."""
        began = time.perf_counter_ns()
        self.requests += 1
        headers = carried(block.decode(head)[1]) if head else {}
        delivery = Delivery(payload, headers, "nats")
        try:
            if len(payload) > self._link.max_frame_bytes:
                raise InvalidFrame(
                    f"the frame has {len(payload)} bytes, at most {self._link.max_frame_bytes} are allowed "
                    f"here (DYN_MAX_FRAME_BYTES)"
                )
            if len(self.accepts) == 1:
                self.accepts[0](delivery)
            else:
                self._offer(delivery)
        except RequestRefused as error:
            self._refuse(reply, error.code, error.summary())
        except (Exception, asyncio.CancelledError):  # nobody awaits here, so nobody cancels either
            self._log.exception("accepting a request for %s failed", self.name)
            self._refuse(reply, "refused", "the worker could not take the request; its log has the reason")
        else:
            if reply:
                self._link.reply(answers.ack(reply))
        self.nanoseconds += time.perf_counter_ns() - began

    def _offer(self, delivery: Delivery) -> None:
        """To one after the other, until one does not say that it is for another endpoint."""
        refusal: RequestRefused = UnknownEndpoint("nobody serves it here any more")
        for accept in self.accepts:
            try:
                accept(delivery)
            except UnknownEndpoint as error:
                refusal = error
            else:
                return
        raise refusal

    def _refuse(self, reply: bytes, code: str, words: str) -> None:
        self.errors += 1
        self.last_error = f"{code}: {words[:200]}"
        if reply:
            link = self._link
            link.reply(answers.refused(reply, code, words, link.max_payload, to_dynamo=link.dynamo))

    def info(self) -> EndpointInfo:
        return EndpointInfo(self.title, self.name, QUEUE, {})

    def stats(self) -> EndpointStats:
        average = self.nanoseconds // self.requests if self.requests else 0
        counted = (self.requests, self.errors, self.nanoseconds, average)
        return EndpointStats(self.title, self.name, QUEUE, *counted, self.last_error)


class Service:
    """One component of this process."""

    def __init__(self, name: str, link: Link) -> None:
        self._link = link
        self.name = name
        self._id = secrets.token_hex(11)
        self._started = datetime.now(UTC)
        self.subjects: dict[str, Subject] = {}
        verbs = {"PING": self._ping, "INFO": self._info, "STATS": self._stats}
        self.subscriptions = [
            link.subscribe(f"$SRV.{verb}{suffix}", "", self._answers(tell))
            for verb, tell in verbs.items()
            for suffix in ("", f".{name}", f".{name}.{self._id}")
        ]

    def _answers(self, tell: Callable[[], dict[str, object]]) -> Handler:
        def answer(subject: bytes, reply: bytes, head: bytes, payload: Body) -> None:
            if reply:
                told = json.dumps(tell()).encode()
                self._link.reply(b"PUB %s %d\r\n%s\r\n" % (reply, len(told), told))

        return answer

    def _ping(self) -> dict[str, object]:
        return ServicePing(self._id, self.name, _VERSION).to_dict()

    def _info(self) -> dict[str, object]:
        endpoints = [subject.info() for subject in self.subjects.values()]
        return ServiceInfo(self.name, self._id, _VERSION, _DESCRIPTION, endpoints).to_dict()

    def _stats(self) -> dict[str, object]:
        endpoints = [subject.stats() for subject in self.subjects.values()]
        return ServiceStats(self._id, self.name, _VERSION, self._started, endpoints).to_dict()
