"""The suite for request planes finds what is wrong: the case meant for it fails, and is told first.

By default a wrong transport runs the first two cases of its row; the slow tests run the whole suite,
and so show that nothing else fails.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import wrong_listeners as listeners
import wrong_requests as requests
import wrong_senders as senders
from reqplane_conformance import RequestTransportConformance
from reqplane_conformance.case import test_case as case_of
from reqplane_conformance.memory import MemoryTransport
from reqplane_conformance.memory.conforming import InMemory
from socket_plane import SocketTransport
from trying import check_wrong, tried


@dataclass(frozen=True)
class Row:
    """A wrong transport: the case meant for it, those that fail too, and those that may."""

    subject: type[Any]
    meant: str
    also: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()
    env: Mapping[str, str] | None = None

    @property
    def suite(self) -> type[RequestTransportConformance]:
        return suite_of(self.subject, self.env)


def suite_of(subject: type[Any], env: Mapping[str, str] | None = None) -> type[RequestTransportConformance]:
    """The conformance class of a subject; its own time-out is short."""
    in_memory = issubclass(subject, MemoryTransport)
    bases = (InMemory, RequestTransportConformance) if in_memory else (RequestTransportConformance,)
    return type(subject.__name__, bases, {"transport": subject, "env": {**_SHORT, **(env or {})}})


_SHORT = {"MEMORY_REQUEST_TIMEOUT": "2", "SOCKET_ACK_TIMEOUT": "2"}


EVERY = tuple(case_of(test).id for test in RequestTransportConformance.cases.values())
"""Nothing arrives as it should, so that nearly every case fails."""
CODED_REFUSALS = (
    "refusals.an_endpoint_that_is_gone",
    "refusals.an_exception_is_a_refusal",
    "refusals.comes_back_however_late",
    "refusals.each_gets_its_own",
    "refusals.odd_texts",
    "refusals.while_draining",
)
ALL_REFUSALS = (
    *CODED_REFUSALS,
    "refusals.an_exception_in_accept",
    "refusals.code_and_text",
    "refusals.not_asked_again",
)

TABLE = (
    # headers
    Row(
        requests.DropsHeaders,
        "headers.arrive_unchanged",
        also=(
            "headers.each_with_its_own_frame",
            "headers.long_values",
            "headers.names_in_any_case",
            "headers.none_invented",  # sends some, too, to see whether they are kept
            "headers.odd_values",
        ),
    ),
    Row(
        requests.LowersValues,
        "headers.arrive_unchanged",
        also=("headers.names_in_any_case", "headers.none_invented", "headers.odd_values"),
    ),
    Row(requests.CutsValues, "headers.long_values"),
    Row(
        requests.InventsTrace,
        "headers.none_invented",
        also=(
            "headers.arrive_unchanged",  # sends each header alone, so one without a trace among them
            "headers.each_with_its_own_frame",
            "headers.odd_values",
        ),
    ),
    # refusals
    Row(
        requests.RefusalIsSuccess,
        "refusals.a_refusal_is_no_ack",
        also=(*ALL_REFUSALS, "life.drain_goes_on", "life.one_of_two_closes"),
    ),
    Row(
        requests.LosesTheCode,
        "refusals.code_and_text",
        also=(
            "refusals.an_endpoint_that_is_gone",
            "refusals.comes_back_however_late",
            "refusals.each_gets_its_own",
            "refusals.odd_texts",
            "refusals.while_draining",
        ),
    ),
    Row(requests.LosesTheText, "refusals.code_and_text", also=("refusals.odd_texts",)),
    Row(
        requests.KeepsTheBudget,
        "life.nothing_left_over",
        also=(
            *ALL_REFUSALS,
            "refusals.a_refusal_is_no_ack",
            "life.drain_goes_on",
            "life.holds_no_more",
            "life.one_of_two_closes",
            "life.prints_nothing",  # lets accept fail
        ),
    ),
    # errors
    Row(requests.TimeOutIsCannotConnect, "failure.frozen_worker"),
    # when a send ends
    Row(
        requests.DeadlineIsADuration,
        "failure.frozen_worker",
        also=("failure.deadline_has_passed", "life.ends_alone"),
    ),
    Row(
        requests.CountsMilliseconds,
        "delivery.without_a_deadline",
        also=(  # they send without a deadline
            "failure.frozen_worker_without_deadline",
            "life.cancelled_send",
            "life.closes_while_sending",
            "life.ends_alone",
        ),
    ),
    Row(requests.SwallowsCancellation, "life.cancelled_send"),
    Row(requests.OneAfterTheOther, "delivery.a_stuck_worker_holds_up_nobody"),
    Row(requests.AllowsOneByteLess, "delivery.one_byte_more_is_too_large"),
    Row(requests.UsesTheFrameUp, "delivery.a_frame_can_be_sent_again"),
    # records and targets
    Row(requests.RecordHasATuple, "delivery.record_survives_json"),
    Row(requests.RecordChanges, "delivery.record_is_pure"),
    Row(listeners.TellsWhereItIsBound, "delivery.record_is_for_others"),
    Row(requests.ExpectsItsOwnRecords, "delivery.foreign_record", also=("delivery.junk_in_its_record",)),
    Row(
        requests.RemembersTargets,
        "delivery.two_workers",
        also=("delivery.sends_while_it_listens", "life.shared_address", "life.two_at_once"),
    ),
    # listening
    Row(requests.AnyEndpoint, "life.one_of_two_closes", also=("refusals.an_endpoint_that_is_gone",)),
    Row(
        requests.AcceptsInAThread,
        "delivery.accept_runs_on_the_loop",
        also=(  # their accepts use the loop
            "delivery.acks_before_the_handler_ends",
            "failure.worker_dies_in_accept",
            "life.drain_acks_all",
        ),
    ),
    Row(
        requests.ListensSoon,
        "delivery.ready_when_listen_returns",
        also=(  # all that let one process serve two endpoints
            "delivery.similar_endpoints",
            "delivery.two_endpoints",
            "life.address_is_free_after_close",
            "life.one_of_two_closes",
            "refusals.an_endpoint_that_is_gone",
        ),
    ),
    # sent twice, or not whole
    Row(senders.SendsAgain, "failure.ack_lost"),
    Row(senders.IsImpatient, "delivery.not_again_while_accept_takes_long", env={"SOCKET_ACK_TIMEOUT": "5"}),
    Row(senders.SendsTheFirstBuffer, "delivery.byte_for_byte", perhaps=EVERY),
    Row(
        senders.WritesWhatFits,
        "delivery.every_size",
        also=("delivery.large_and_small_do_not_mix", "life.cancelled_send"),
    ),
    Row(senders.CountsInThreeBytes, "delivery.every_size"),
    Row(senders.MixesFrames, "delivery.large_and_small_do_not_mix"),
    Row(senders.IgnoresBackpressure, "failure.memory_is_bounded"),
    # acks
    Row(senders.FiresAndForgets, "delivery.acks_after_accept", perhaps=EVERY),
    Row(senders.TakesStaleAcks, "failure.ack_of_another"),
    Row(
        senders.MixesUpAcks,
        "refusals.each_gets_its_own",
        also=("failure.ack_of_another",),
        perhaps=("failure.killed_under_traffic",),
    ),
    Row(
        listeners.AcksBeforeAccept,
        "delivery.acks_after_accept",
        also=(
            *ALL_REFUSALS,
            "refusals.a_refusal_is_no_ack",
            "failure.ack_of_another",
            "failure.worker_dies_in_accept",
            "life.drain_goes_on",
            "life.one_of_two_closes",
        ),
    ),
    Row(
        listeners.AcksAfterTheHandler,
        "delivery.acks_before_the_handler_ends",
        also=("life.drain_acks_all",),
    ),
    Row(
        listeners.RefusesBySilence,
        "refusals.code_and_text",
        also=(
            *CODED_REFUSALS,
            "refusals.too_large_for_the_worker",
            "life.drain_goes_on",
            "life.holds_no_more",  # takes too long
        ),
    ),
    Row(
        listeners.RefusesByHangingUp,
        "refusals.code_and_text",
        also=(*CODED_REFUSALS, "refusals.too_large_for_the_worker"),
    ),
    # connections, tasks and errors
    Row(
        senders.KeepsBrokenConnections,
        "failure.comes_back",
        also=(
            "failure.ack_lost",
            "failure.connection_cut",
            "failure.killed_under_traffic",
            "failure.not_delivered_stays_so",
        ),
    ),
    Row(senders.HangsUpForAll, "life.ends_alone"),
    Row(senders.ConnectsForAll, "life.ends_alone"),
    Row(senders.SharesItsPool, "life.ends_alone", perhaps=("life.forgets_frontends_that_left",)),
    Row(
        senders.HasAHundredPlaces,
        "delivery.a_stuck_worker_holds_up_nobody",
        env={"SOCKET_ACK_TIMEOUT": "5"},
    ),
    Row(senders.OpensOneForEach, "life.holds_no_more", also=("life.cancelled_send",)),
    Row(senders.ItsOwnTimeOutIsCannotConnect, "failure.frozen_worker_without_deadline"),
    Row(senders.SendsInTheBackground, "life.holds_no_more"),
    Row(
        senders.LetsForeignErrorsOut,
        "failure.only_our_errors",
        also=("failure.frozen_worker", "failure.nobody_listening", "failure.worker_vanished"),
        perhaps=tuple(case for case in EVERY if case.startswith(("failure.", "life."))),  # where sends fail
    ),
    # bytes, as a worker sees them
    Row(
        listeners.SplitsFrames,
        "delivery.every_size",
        also=(
            "delivery.any_kind_of_bytes",
            "delivery.large_and_small_do_not_mix",
            "failure.bytes_in_pieces",
            "failure.half_a_frame",
        ),
        perhaps=(  # what one read gives is a matter of luck
            "delivery.a_frame_can_be_sent_again",
            "delivery.a_frame_stays_as_it_was_accepted",
            "delivery.one_byte_more_is_too_large",
            "delivery.the_worker_keeps_its_own_limit",
            "failure.connection_cut",
            "headers.long_values",
            "life.cancelled_send",
            "refusals.too_large_for_the_worker",
        ),
    ),
    Row(
        listeners.MergesFrames,
        "delivery.large_and_small_do_not_mix",
        also=(  # all that send several frames at once
            "delivery.a_thousand_each_once",
            "delivery.the_first_sixty_four_at_once",
            "headers.each_with_its_own_frame",
            "refusals.each_gets_its_own",
            "life.closes_under_traffic",
            "life.ends_alone",
        ),
        perhaps=(
            "delivery.a_stuck_worker_holds_up_nobody",
            "delivery.several_frontends",
            "failure.killed_under_traffic",
            "failure.late_ack",
            "life.cancelled_send",
            "life.drain_acks_all",
            "life.holds_no_more",
        ),
    ),
    Row(listeners.UsesItsBufferAgain, "delivery.a_frame_stays_as_it_was_accepted"),
    Row(
        listeners.TrustsItsSenders,
        "delivery.the_worker_keeps_its_own_limit",
        also=("failure.announces_too_much", "refusals.too_large_for_the_worker"),
    ),
    Row(
        listeners.DiesOfAccept,
        "refusals.an_exception_in_accept",
        also=("refusals.an_exception_is_a_refusal",),
    ),
    Row(
        listeners.ServesOneAtATime,
        "delivery.several_frontends",
        also=(  # all that connect twice
            "delivery.sends_while_it_listens",
            "refusals.odd_texts",
            "refusals.while_draining",
            "failure.announces_too_much",
            "failure.half_a_frame",
            "failure.silent_connections",
            "life.ends_alone",
            "life.one_of_two_closes",
            "life.two_at_once",
        ),
    ),
    Row(listeners.GoesOnAfterClose, "life.closes_under_traffic"),
)
"""What is wrong, and what is found; why others fail too is said where it is not plain."""

RIGHT = (MemoryTransport, SocketTransport)


@pytest.fixture(autouse=True)
def _no_log() -> Generator[None]:
    """What wrong transports log is nobody's concern."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.subject.__name__)
def test_it_fails_the_case_meant_for_it(row: Row):
    also = row.also[:1]
    check_wrong(row.suite, row.meant, also, perhaps=row.perhaps, only={row.meant, *also})


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.subject.__name__)
def test_it_fails_nothing_else(row: Row):
    check_wrong(row.suite, row.meant, row.also, perhaps=row.perhaps)


@pytest.mark.slow
class TestSocket(RequestTransportConformance):
    """What most of them are made from; `test_memory` has the other one."""

    transport = SocketTransport
    env = _SHORT


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("subject", RIGHT)
def test_right_ones_pass_20_times_in_a_row(subject: type[Any]):
    for _ in range(20):
        found = tried(suite_of(subject))
        assert not found.failed, found.told()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("strain", ["delay", "load"])
@pytest.mark.parametrize("subject", RIGHT)
def test_right_ones_pass_under_strain(subject: type[Any], strain: str):
    patient = {"SOCKET_ACK_TIMEOUT": "10"}  # 17 MiB come in many pieces, each of them late
    found = tried(suite_of(subject, patient), strain=strain)
    assert not found.failed, found.told()


def test_each_stands_in_the_table_once():
    rows = [row.subject for row in TABLE]
    assert len(rows) == len(set(rows))
    classes = {
        member
        for module in (requests, senders, listeners)
        for name, member in vars(module).items()
        if getattr(member, "__module__", "") == module.__name__
        and isinstance(member, type)
        and hasattr(member, "capabilities")
        and not name.startswith("_")
    }
    assert classes == set(rows)


def test_the_table_names_cases_that_there_are():
    there = {case_of(test).id for test in RequestTransportConformance.cases.values()}
    assert {case for row in TABLE for case in (row.meant, *row.also, *row.perhaps)} <= there
