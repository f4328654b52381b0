"""Whether processes grew: the second half of a soak against its first.

At quiet moments, garbage collected.  Medians are compared, so that one odd moment decides nothing.  Memory
may differ by 2 MiB and 2 %, since the allocator's holes move; a leak of 100 bytes a call would be more than
that after 10 minutes.  Objects may differ by 1 % and 500; descriptors, tasks and threads by 2.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ALLOWED = {
    "bytes": (2 << 20, 0.02),
    "objects": (500, 0.01),
    "descriptors": (2, 0.0),
    "tasks": (2, 0.0),
    "threads": (2, 0.0),
}
"""By figure: so many more, and so much of the first half's median."""
_WARM_UP = 0.2
"""The share of samples at the start that counts for nothing: caches and connection pools fill."""

Sample = Mapping[str, int]


@dataclass(frozen=True)
class Growth:
    """One figure of one process, by the medians of the halves."""

    process: str
    figure: str
    first: float
    second: float

    @property
    def allowed(self) -> float:
        more, share = _ALLOWED[self.figure]
        return more + share * self.first

    @property
    def too_much(self) -> bool:
        return self.second - self.first > self.allowed


def growths(process: str, samples: Sequence[Sample]) -> list[Growth]:
    """Every figure's growth."""
    counted = samples[int(len(samples) * _WARM_UP) :]
    half = len(counted) // 2
    return [
        Growth(
            process,
            figure,
            statistics.median(sample[figure] for sample in counted[:half]),
            statistics.median(sample[figure] for sample in counted[half:]),
        )
        for figure in _ALLOWED
    ]


def table(rows: Sequence[Growth]) -> str:
    """As Markdown."""
    lines = [
        "| process | figure | first half | second half | growth | allowed |",
        "| --- | --- |" + " ---: |" * 4,
    ]
    lines += [
        f"| {row.process} | {row.figure} | {row.first:,.0f} | {row.second:,.0f} "
        f"| {row.second - row.first:+,.0f} | {row.allowed:,.0f} |"
        for row in rows
    ]
    return "\n".join(lines)
