"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from reqplane.escaping import escaped


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows under each other, their cells too; whatever the cells hold, each row is one line."""
    shown = [[escaped(cell, keep="") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    return "\n".join(_line(row, widths) for row in shown)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
