"""Every cell of the matrix against real Dynamo, and the table that docs/interop.md shows.

    python -m interop.matrix [--only TEXT …] [--rows ROW,…] [--quick] [--json FILE] [--write docs/interop.md]

Takes some minutes.  Wheels come by pip (see venvs.py), NATS and etcd from this environment.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import itertools
import json
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from interop import fleet, page
from interop.cells import ABSENT, DIRECTIONS, Cell, places, run_cell
from interop.peer import Trouble
from interop.rows import ROWS
from interop.stage import Place, Servers, Stage
from interop.venvs import NotInstalled, interpreter

FAILED = page.MARKS["red"]
FleetRun = tuple[str, Callable[[Stage], Sequence[fleet.Loaded]]]


def _mixed(seconds: float) -> FleetRun:
    title = f"Two workers and a client of each side under load for {seconds:g} s"
    return title, lambda stage: fleet.mixed(stage, seconds)


_REPLACED: FleetRun = "Three workers of Dynamo's replaced by ours, one by one", fleet.replaced
FLEETS: Mapping[Place, Sequence[FleetRun]] = {
    Place("1.6.1", "tcp", "file"): (_mixed(60), _REPLACED),
    Place("1.6.1", "nats", "etcd"): (_mixed(20), _REPLACED),
    Place("0.9.1", "http", "etcd"): (_mixed(20),),
}


class Run:
    """One run: the servers, and the folders of its processes."""

    def __init__(self, servers: Servers, folder: Path, rows: Sequence[str]) -> None:
        self._servers = servers
        self._folder = folder
        self._rows = rows
        self._numbers = itertools.count(1)

    def cells(self, place: Place) -> Iterator[Cell]:
        """A place's directions, one after the other."""
        try:
            python = interpreter(place.version)
        except NotInstalled as error:
            for calling, answering in DIRECTIONS:
                yield Cell(place, calling, answering, reason=str(error))
            return
        reference: Cell | None = None
        for calling, answering in DIRECTIONS:
            number = next(self._numbers)
            stage = Stage(place, python, self._servers, self._folder / f"cell-{number}")
            with closing(stage):
                namespace = f"interop{number}"
                cell = run_cell(stage, calling, answering, namespace, reference, self._rows)
            if cell.is_reference:
                reference = cell
            yield cell

    def absent(self, place: Place) -> Iterator[Cell]:
        """What Dynamo says when it is asked for what it does not have."""
        reason = "it could be set up, against all expectation: this cell should be run"
        number = next(self._numbers)
        try:
            stage = Stage(place, interpreter(place.version), self._servers, self._folder / f"cell-{number}")
            with closing(stage):
                stage.worker("dynamo", f"interop{number}.plain.generate")
        except Trouble as trouble:
            reason = _own_words(str(trouble))
        except NotInstalled as error:
            reason = str(error)
        for calling, answering in DIRECTIONS:
            yield Cell(place, calling, answering, reason=reason)

    def fleets(self, place: Place) -> list[str]:
        """Both sides together under load, as lines of the page."""
        told: list[str] = []
        for title, what in FLEETS[place]:
            folder = self._folder / f"fleet-{next(self._numbers)}"
            with closing(Stage(place, interpreter(place.version), self._servers, folder)) as stage:
                try:
                    counts = " and ".join(str(load) for load in what(stage))
                except Trouble as trouble:
                    counts = f"{FAILED} {trouble}"
            told.append(f"- {title} (Dynamo {place}): {counts}.")
            print(told[-1], file=sys.stderr, flush=True)
        return told


def _own_words(text: str) -> str:
    found = re.search(r"Invalid request plane mode[^\n]*", text)
    return f"Dynamo refuses it: {found[0]}" if found else text


def _facts(seconds: float) -> list[str]:
    ours = importlib.metadata.version("reqplane")
    return [
        f"{datetime.date.today().isoformat()}: Reqplane {ours} on Python {platform.python_version()},",
        f"{platform.system()} {platform.machine()}, {seconds:.0f} s.",
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--only", metavar="TEXT", nargs="*", help="places that contain it, such as 'tcp+file'"
    )
    parser.add_argument("--rows", default=",".join(ROWS), help="by comma; all if left out")
    parser.add_argument("--quick", action="store_true", help="leave out the fleets under load")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was seen there")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table between the page's marks")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep what the processes log there")
    return parser.parse_args()


def main() -> int:
    options = _options()
    cells: list[Cell] = []
    told: list[str] = []
    began = time.monotonic()
    with ExitStack() as stack:
        folder = options.logs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        run = Run(Servers.start(folder, stack), folder, options.rows.split(","))
        wanted = [(place, run.cells) for place in places()] + [(place, run.absent) for place in ABSENT]
        for place, what in wanted:
            if options.only and not any(text in str(place) for text in options.only):
                continue
            for cell in what(place):
                cells.append(cell)
                _tell(cell)
            if place in FLEETS and not options.quick:
                told += run.fleets(place)
    facts = _facts(time.monotonic() - began)
    text = page.table(cells, facts, told)
    print(text)
    if options.json is not None:
        found = {"facts": facts, "cells": [cell.as_json() for cell in cells]}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    if options.write is not None:
        page.put(options.write, text)
    return int(failed(cells, told))


def failed(cells: Sequence[Cell], told: Sequence[str]) -> bool:
    """Whether something is not as it is wanted of us; what fails between Dynamo's own is not ours."""
    ours = [cell for cell in cells if not cell.is_reference and cell.place not in ABSENT]
    red = any(row.outcome == "red" for cell in ours for row in cell.rows.values())
    return red or any(cell.reason for cell in ours) or any(FAILED in line for line in told)


def _tell(cell: Cell) -> None:
    rows = " ".join(f"{page.MARKS[row.outcome]}{name}" for name, row in cell.rows.items())
    print(f"{cell.place} {cell.direction}: {rows or cell.reason}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
