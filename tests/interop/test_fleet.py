"""Workers and clients of both sides in one system: nobody's calls fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from interop import fleet
from interop.stage import Place, Stage
from interop.venvs import NotInstalled, interpreter

PLACE = Place("1.6.1", "tcp", "file")
pytestmark = [pytest.mark.interop, pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    try:
        dynamo = interpreter(PLACE.version)
    except NotInstalled as error:
        pytest.skip(str(error))
    with closing(Stage(PLACE, dynamo, None, tmp_path / "stage")) as stage:
        yield stage


@pytest.mark.parametrize("seconds", [5.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_a_mixed_fleet_under_load(stage: Stage, seconds: float, record_property: Callable[[str, str], None]):
    for load in fleet.mixed(stage, seconds):
        record_property(f"calls by {load.side}", f"{load.whole} in {seconds:g} s")


@pytest.mark.slow
def test_workers_of_dynamo_are_replaced_by_ours(stage: Stage, record_property: Callable[[str, str], None]):
    ours, theirs = fleet.replaced(stage)
    assert ours.least >= 100, "too few were under way for this to say anything"
    for load in (ours, theirs):
        record_property(f"calls by {load.side}", f"{load.whole}, at least {load.least} under way")
