"""Two cells of the matrix, beside one version of Dynamo; `make interop` runs them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from interop.cells import DIRECTIONS, Cell, run_cell
from interop.stage import Place, Side, Stage
from interop.venvs import NotInstalled, interpreter

PLACE = Place("1.6.1", "tcp", "file")
pytestmark = [pytest.mark.interop, pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def dynamo() -> Path:
    """The interpreter that has the wheel; the first time pip fetches it."""
    try:
        return interpreter(PLACE.version)
    except NotInstalled as error:
        pytest.skip(str(error))


@pytest.fixture
def stage(dynamo: Path, tmp_path: Path) -> Iterator[Stage]:
    with closing(Stage(PLACE, dynamo, None, tmp_path / "stage")) as stage:
        yield stage


@pytest.fixture(scope="module")
def reference(dynamo: Path, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """What Dynamo's client sees of Dynamo's own worker."""
    with closing(Stage(PLACE, dynamo, None, tmp_path_factory.mktemp("reference") / "stage")) as stage:
        rows = ("values", "error before", "error between", "stop", "kill", "worker killed")
        return run_cell(stage, *DIRECTIONS[0], "reference", rows=rows)


@pytest.mark.parametrize(("calling", "answering"), DIRECTIONS[1:])
def test_a_cell_is_green(stage: Stage, reference: Cell, calling: Side, answering: Side):
    cell = run_cell(stage, calling, answering, "interop", reference)
    assert not cell.reason
    assert {name: row.reason for name, row in cell.rows.items() if row.outcome != "green"} == {}
    assert cell.is_green, cell
