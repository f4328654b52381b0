"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from reqplane.escaping import escaped


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows under each other, their cells too; whatever the cells hold, each row is one line."""
    shown = [[escaped(cell, keep="") for cell in row] for row in rows]
    return "\n".join(line(row, widths(shown)) for row in shown)


def widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """How wide each column must be."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def line(cells: Sequence[str], wide: Sequence[int]) -> str:
    """One row."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, wide, strict=True)).rstrip()
