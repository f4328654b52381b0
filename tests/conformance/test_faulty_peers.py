"""Each of these transports does one thing wrong, and the case about it says so first.

They are made from a right one; what each does is a fault that real transports have had.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import faulty_listeners as listeners
import faulty_senders as senders
import pytest
from plain_tcp import PlainTcp
from reqplane_conformance import RequestTransportConformance
from trying import tried

pytestmark = pytest.mark.slow


class TestPlain(RequestTransportConformance):
    transport = PlainTcp


WRONG: Mapping[type[PlainTcp], str] = {
    senders.KeepsWhatWasGivenUp: "failure.memory_is_bounded",
    senders.SendsAgain: "failure.ack_lost",
    senders.LossIsNotDelivered: "failure.worker_dies_in_accept",
    senders.EndIsAck: "failure.worker_dies_in_accept",
    senders.AnythingIsAck: "failure.only_our_errors",
    senders.DecodesAnything: "failure.only_our_errors",
    senders.ReadsToTheEnd: "failure.endless_answer",
    senders.ReadsOnce: "failure.bytes_in_pieces",
    senders.WaitsForEver: "failure.deadline_has_passed",
    senders.TimesOutForeign: "failure.only_our_errors",
    senders.TimeOutIsNotDelivered: "failure.frozen_worker",
    senders.HasNoDeadline: "failure.frozen_worker",
    senders.SwallowsCancelling: "life.cancelled_send",
    senders.SaysNotWhere: "failure.errors_say_where",
    senders.GivesUpForGood: "failure.comes_back",
    senders.Blocks: "life.never_blocks_the_loop",
    senders.CancelsSenders: "life.closes_while_sending",
    senders.LeavesSendersWaiting: "life.closes_while_sending",
    senders.SendsAfterClose: "life.send_after_close",
    listeners.TakesWhatThereIs: "failure.bytes_in_pieces",
    listeners.TakesHalves: "failure.half_a_frame",
    listeners.TakesAnySize: "failure.announces_too_much",
    listeners.DiesOfJunk: "failure.raw_junk",
    listeners.WaitsForConnections: "failure.silent_connections",
    listeners.KeepsItsAddress: "life.address_is_free_after_close",
    listeners.ClosesAll: "life.one_of_two_closes",
    listeners.AcksLater: "life.drain_acks_all",
    listeners.DrainsToDeath: "life.drain_goes_on",
    listeners.ClosesOnce: "life.closes_twice",
    listeners.ReadsTheProcess: "life.settings_come_from_the_host",
    listeners.RaisesForeign: "life.wrong_setting",
    listeners.PortIsTaken: "life.port_in_use",
    listeners.ListensAtOnce: "life.open_listens_on_nothing",
    listeners.LeavesItsSocket: "life.cancelled_listen",
    listeners.AddressOfOne: "life.shared_address",
    listeners.Prints: "life.prints_nothing",
    listeners.SleepsInAccept: "life.never_blocks_the_loop",
}
"""The case that is about what each does."""


@pytest.mark.parametrize("subject", WRONG, ids=lambda subject: subject.__name__)
def test_the_case_about_it_fails(subject: type[PlainTcp]):
    found = tried(suite_of(subject), only={WRONG[subject]})
    assert found.first == WRONG[subject], found.told() or "nothing failed"
    assert "it did:" in found.message, found.message


def suite_of(subject: type[Any]) -> type[RequestTransportConformance]:
    return type("TestWrong", (RequestTransportConformance,), {"transport": subject})
