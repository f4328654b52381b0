"""The suite finds what is wrong with a response transport, and tells it first."""

from __future__ import annotations

import pytest
from reqplane_conformance import ResponseTransportConformance
from reqplane_conformance.memory.responding import InMemory
from reqplane_conformance.memory.responses import MemoryResponses
from trying import check_told, tried
from wrong_responses import WRONG, Wrong

WAITS = {
    "ClosesBehindTheReader",
    "ForgetsAnEarlyStop",
    "Gathers",
    "HangsAfterTheEnd",
    "HasNoHeartbeat",
    "HasOneWindowForAll",
    "KeepsConnectionsByAddress",
    "LeavesReadersWaiting",
    "LeavesWritersWaiting",
    "LetsEverybodyIn",
    "TellsNobodyOfTheLoss",
}
"""What is wrong with these is that nothing happens, so that it takes seconds to find it."""


def suite_of(transport: type[MemoryResponses]) -> type[ResponseTransportConformance]:
    members = {"transport": transport, "__module__": __name__}
    return type(f"Test{transport.__name__}", (InMemory, ResponseTransportConformance), members)


@pytest.mark.parametrize(
    "wrong",
    [pytest.param(one, id=one.id, marks=[pytest.mark.slow] * (one.id in WAITS)) for one in WRONG],
)
def test_the_case_that_is_meant_for_it_fails(wrong: Wrong):
    found = tried(suite_of(wrong.transport), only={wrong.meant})
    assert found.first == wrong.meant, found.told() or "nothing failed"
    assert "it did:" in found.message
    assert "expected:" in found.message


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.id)
def test_it_is_told_first_and_nothing_else_but_what_the_table_says(wrong: Wrong):
    check_told(suite_of(wrong.transport), wrong.meant, wrong.also, perhaps=wrong.perhaps)


def test_every_group_of_cases_has_a_wrong_transport():
    groups = {case.group for case in ResponseTransportConformance.all_cases()}
    assert groups == {wrong.meant.partition(".")[0] for wrong in WRONG}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_right_one_passes_20_times_in_a_row():
    for _ in range(20):
        found = tried(suite_of(MemoryResponses))
        assert found.level == "full", found.told()
