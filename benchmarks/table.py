"""The results as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from goals import ALLOWANCE, FIGURES, NO_SPEED_CPU, Figure
from workloads import WORKLOADS

Results = Mapping[tuple[str, str, str], Sequence[float]]
"""Samples by peer, workload and figure."""


def report(results: Results, peers: Sequence[str], workloads: Sequence[str], facts: Sequence[str]) -> str:
    """The whole text: facts of the run, the tables, what the workloads are."""
    rows = [figure for figure in FIGURES if figure.workload in workloads]
    lines = ["# Benchmark results", "", *(f"- {fact}" for fact in facts), ""]
    planes = [("reqplane", "http"), *((plane, plane) for plane in ("tcp", "nats") if plane in peers)]
    if "dynamo" in peers:
        for peer, plane in planes:
            lines += _beside_dynamo(results, rows, peer, plane)
    else:
        for peer, plane in planes[1:]:
            lines += _beside(results, rows, peer, f"The http plane beside the {plane} plane")
    lines += _beside(results, rows, "raw", "Beside raw asyncio, which has none of the features")
    if "no-speed" in peers:
        lines += _without_speed(results, rows)
    lines += ["## Workloads", "", *_explained(workloads), ""]
    lines += _samples(results, rows, peers)
    return "\n".join(lines)


def _explained(workloads: Sequence[str]) -> Iterator[str]:
    yield "A frontend process and a worker process on loopback; CPU is that of both, and of the NATS server."
    yield ""
    for name in workloads:
        yield f"- {name}: {WORKLOADS[name].what}"


def _beside_dynamo(results: Results, rows: Sequence[Figure], ours: str, plane: str) -> Iterator[str]:
    yield f"## The {plane} plane beside Dynamo"
    yield ""
    yield f"*Allowed* is {ALLOWANCE:g} times off the goal.  Figures are medians, with their range."
    yield ""
    yield f"| workload | figure | {plane} | Dynamo | ratio | goal | allowed | |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
    for row in rows:
        ratio = _ratio(results, row, ours, "dynamo")
        yield (
            f"| {row.workload} | {row.label} | {_cell(results, row, ours)} "
            f"| {_cell(results, row, 'dynamo')} | {ratio:.2f} | {_verdict(row, ratio, row.goal(plane))} |"
        )
    yield ""


def _verdict(row: Figure, ratio: float, goal: float | None) -> str:
    if goal is None:
        return "| | "
    allowed = row.allowed(goal)
    sign = "≥" if row.more_is_better else "≤"
    if row.meets(ratio, goal):
        verdict = "goal met"
    else:
        verdict = "allowed" if row.meets(ratio, allowed) else "**MISSED**"
    return f"{sign} {goal:g} | {sign} {allowed:.2f} | {verdict}"


def _beside(results: Results, rows: Sequence[Figure], peer: str, title: str) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield f"| workload | figure | reqplane | {peer} | ratio |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for row in rows:
        ratio = _ratio(results, row, "reqplane", peer)
        yield (
            f"| {row.workload} | {row.label} | {_cell(results, row, 'reqplane')} "
            f"| {_cell(results, row, peer)} | {ratio:.2f} |"
        )
    yield ""


def _without_speed(results: Results, rows: Sequence[Figure]) -> Iterator[str]:
    yield "## Without uvloop and msgspec"
    yield ""
    yield f"CPU may be {NO_SPEED_CPU:g} times that of the first table."
    yield ""
    yield "| workload | figure | without | with | ratio | |"
    yield "| --- | --- | ---: | ---: | ---: | --- |"
    for row in rows:
        ratio = _ratio(results, row, "no-speed", "reqplane")
        verdict = "" if not row.is_cpu else "within" if ratio <= NO_SPEED_CPU else "**MISSED**"
        yield (
            f"| {row.workload} | {row.label} | {_cell(results, row, 'no-speed')} "
            f"| {_cell(results, row, 'reqplane')} | {ratio:.2f} | {verdict} |"
        )
    yield ""


def _samples(results: Results, rows: Sequence[Figure], peers: Sequence[str]) -> Iterator[str]:
    yield "## All samples"
    yield ""
    yield "In the order in which they were taken."
    yield ""
    yield f"| workload | figure | {' | '.join(peers)} |"
    yield f"| --- | --- |{' --- |' * len(peers)}"
    for row in rows:
        taken = (results[peer, row.workload, row.name] for peer in peers)
        yield f"| {row.workload} | {row.label} | {' | '.join(' '.join(map(_number, one)) for one in taken)} |"
    yield ""


def _ratio(results: Results, row: Figure, peer: str, other: str) -> float:
    ours, theirs = (statistics.median(results[one, row.workload, row.name]) for one in (peer, other))
    return ours / theirs


def _cell(results: Results, row: Figure, peer: str) -> str:
    values = results[peer, row.workload, row.name]
    return f"{_number(statistics.median(values))} ({_number(min(values))} - {_number(max(values))})"


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
