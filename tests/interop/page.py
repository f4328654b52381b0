"""The table of docs/interop.md, written between two marks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from interop.cells import Cell
from interop.rows import ROWS

BEGIN = "<!-- written by make interop: begin -->"
END = "<!-- written by make interop: end -->"
MARKS = {"green": "✓", "red": "✗", "dynamo": "≈"}
HEAD = ("Dynamo", "plane", "discovery", "client → worker", *ROWS, "a live process of Dynamo's")


def table(cells: Sequence[Cell], facts: Sequence[str], fleets: Sequence[str] = ()) -> str:
    """All cells as Markdown: a line each, and a note for whatever is not green; `fleets` are lines too."""
    notes: list[str] = []
    lines = [_line(HEAD), _line("---" for _ in HEAD), *(_line(_columns(cell, notes)) for cell in cells)]
    ours = [cell for cell in cells if not cell.is_reference]
    run = [cell for cell in ours if cell.rows]
    numbered = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    green = sum(cell.is_green for cell in run)
    summary = f"Of the cells with a process of ours {green} of {len(run)} are green"
    summary += f", and {len(ours) - len(run)} could not be run." if len(run) < len(ours) else "."
    parts = [[*facts, summary], lines, numbered, fleets]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _columns(cell: Cell, notes: list[str]) -> Iterator[str]:
    yield cell.place.version
    yield cell.place.plane
    yield cell.place.discovery
    yield f"{cell.direction} {_noted(cell.reason, notes)}" if cell.reason else cell.direction
    for name in ROWS:
        row = cell.rows.get(name)
        if row is None:
            yield "-"
        elif row.outcome == "green":
            yield f"✓ {_noted(row.remark, notes)}" if row.remark else "✓"
        else:
            yield f"{MARKS[row.outcome]} {_noted(row.reason, notes)}"
    live = next(iter(cell.peers), None)
    yield f"pid {live['pid']}, {live['version']}" if live else "-"


def _noted(reason: str, notes: list[str]) -> str:
    """The number of a note; the same reason gets the same."""
    words = re.sub(r" \(pid \d+\)|(?<=\w)_\d+\b", "", reason.splitlines()[0]).replace("|", "\\|")
    if words not in notes:
        notes.append(words)
    return f"[{notes.index(words) + 1}]"


def _line(columns: Iterator[str] | Sequence[str]) -> str:
    return f"| {' | '.join(columns)} |"


def put(page: Path, text: str) -> None:
    """Put the text between the page's marks."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} lacks the marks {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def between(page: Path) -> str:
    """What stands there."""
    return page.read_text().partition(BEGIN)[2].partition(END)[0].strip()
