"""Right transports that are unlike ours pass too."""

from __future__ import annotations

from typing import Any

from plain_tcp import PlainTcp
from reqplane_conformance import RequestTransportConformance
from trying import tried

_ABOUT_SIZES = {
    "delivery.a_frame_can_be_sent_again",
    "delivery.a_frame_stays_as_it_was_accepted",
    "delivery.any_kind_of_bytes",
    "delivery.every_size",
    "delivery.header_only",
    "delivery.large_and_small_do_not_mix",
    "delivery.one_byte_more_is_too_large",
    "delivery.the_worker_keeps_its_own_limit",
    "failure.bytes_in_pieces",
    "failure.connection_cut",
    "failure.errors_say_where",
    "life.cancelled_send",
    "life.closes_while_sending",
    "life.nothing_left_over",
    "refusals.too_large_for_the_worker",
}


class CarriesLittle(PlainTcp):
    """64 KiB and no more, as some brokers do."""

    def __init__(self, host: Any) -> None:
        super().__init__(host)
        self.most = min(self.most, 64 * 1024)


class Small(RequestTransportConformance):
    transport = CarriesLittle


def test_one_that_carries_little():
    found = tried(Small, only=_ABOUT_SIZES)
    assert not found.failed, found.told()
