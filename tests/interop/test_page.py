"""docs/interop.md has its table, whole and with a reason for whatever is not green."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from interop import page
from interop.cells import ABSENT, DIRECTIONS, REQUIRED, Cell, Row, places
from interop.matrix import failed
from interop.rows import ROWS
from interop.stage import Place

PAGE = Path(__file__).parent.parent.parent / "docs" / "interop.md"
TEXT = page.between(PAGE)
LINES = [line.strip("|").split("|") for line in TEXT.splitlines() if line.startswith("|")]
TABLE = [[column.strip() for column in line] for line in LINES]
NOTES = dict(re.findall(r"^(\d+)\. (.+)$", TEXT, re.MULTILINE))


def test_its_columns():
    assert tuple(TABLE[0]) == page.HEAD
    assert {len(line) for line in TABLE} == {len(page.HEAD)}


def test_every_cell_has_its_line():
    wanted = [
        (place.version, place.plane, place.discovery, Cell(place, *direction).direction)
        for place in [*places(), *ABSENT]
        for direction in DIRECTIONS
    ]
    found = [(*line[:3], re.sub(r" \[\d+\]$", "", line[3])) for line in TABLE[2:]]
    assert found == wanted


def test_what_is_not_green_has_a_reason():
    for line in TABLE[2:]:
        absent = re.search(r"\[(\d+)\]", line[3])
        for name, mark in zip(ROWS, line[4:], strict=False):
            number = re.fullmatch(r"✓|[✗≈✓] \[(\d+)\]|-", mark)
            assert number is not None, line
            assert mark != "-" or absent is not None or name not in REQUIRED, line
            assert number[1] is None or NOTES[number[1]]
        assert absent is None or NOTES[absent[1]]


def test_a_green_line_names_a_live_process():
    for line in TABLE[2:]:
        if line[4] != "-":
            assert re.fullmatch(rf"pid \d+, {re.escape(line[0])}", line[-1]), line


# ── how it is written ───────────────────────────────────────────────────────────────────────────────


def cell(**rows: Row) -> Cell:
    found = Cell(Place("1.6.1", "tcp", "file"), "dynamo", "reqplane")
    found.peers = [{"side": "dynamo", "version": "1.6.1", "pid": 7}]
    found.rows = {name: Row("green") for name in ROWS} | {k.replace("_", " "): v for k, v in rows.items()}
    return found


def test_a_cell_is_green_only_with_its_required_rows_and_a_live_process():
    assert cell().is_green
    assert not cell(stop=Row("red", "why")).is_green
    for name in REQUIRED:
        lacking = cell()
        del lacking.rows[name]
        assert not lacking.is_green
    dead = cell()
    dead.peers = []
    assert not dead.is_green


def test_reasons_are_numbered_and_free_of_processes():
    red = Row("red", "the our_worker_3 (pid 12) ended\n    a traceback")
    text = page.table([cell(stop=red), cell(kill=red)], ["some facts"])
    assert text.count("✗ [1]") == 2
    assert text.endswith("\n\n1. the our_worker ended")


def test_the_page_keeps_what_stands_around_the_table(tmp_path: Path):
    there = tmp_path / "page.md"
    there.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    page.put(there, "new")
    assert there.read_text() == f"before\n{page.BEGIN}\n\nnew\n\n{page.END}\nafter\n"
    assert page.between(there) == "new"
    there.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the marks"):
        page.put(there, "new")


def test_a_run_fails_by_what_is_wanted_of_us():
    bad = Row("red", "the handler never heard of it")
    reference = Cell(Place("1.6.1", "tcp", "file"), "dynamo", "dynamo", rows={"trace": bad})
    absent = Cell(ABSENT[0], "dynamo", "reqplane", reason="Dynamo refuses it")
    assert not failed([cell(), cell(trace=Row("dynamo", "as little so")), reference, absent], ["- All came."])
    assert failed([cell(trace=bad)], [])
    assert failed([Cell(Place("1.6.1", "tcp", "file"), "dynamo", "reqplane", reason="no worker")], [])
    assert failed([cell()], ["- Two workers under load: ✗ 3 of 90 calls failed."])
