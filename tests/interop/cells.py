"""The cells of the matrix, and how one is run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast

from interop.peer import Trouble
from interop.rows import ROWS, Scene
from interop.stage import Place, Side, Stage

Outcome = Literal["green", "red", "dynamo"]
"""`dynamo`: it is as little so between two processes of Dynamo's, by their own wheel."""

REQUIRED = ("error before", "error between", "stop", "kill", "worker killed", "trace")
"""Without these a cell is not green, whatever else is."""

DIRECTIONS: tuple[tuple[Side, Side], ...] = (
    ("dynamo", "dynamo"),  # first: what Dynamo does between its own processes is what is wanted of ours
    ("dynamo", "reqplane"),
    ("reqplane", "dynamo"),
)


def places() -> Iterator[Place]:
    """Each version, on the planes and by the discovery that it has."""
    for version in ("0.7.1", "0.9.1"):
        for plane in ("http", "nats", "tcp"):
            yield Place(version, plane, "etcd")
    for plane in ("nats", "tcp"):
        for discovery in ("etcd", "file"):
            yield Place("1.6.1", plane, discovery)


ABSENT = (Place("1.6.1", "http", "etcd"),)
"""What this version does not have: asked for all the same, so that the reason is its own."""


@dataclass
class Row:
    """What became of one row; `reason` where it is not green."""

    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0
    seen: Any = None

    @property
    def remark(self) -> str:
        """What a reader should know of a green row."""
        lost = self.seen.get("lost") if isinstance(self.seen, Mapping) else None
        return f"Dynamo's client gives no item where a handler yields {', '.join(lost)}" if lost else ""


@dataclass
class Cell:
    """One direction at one place, and what became of its rows."""

    place: Place
    calling: Side
    answering: Side
    peers: list[Mapping[str, Any]] = field(default_factory=list)
    """What Dynamo's processes told of themselves while they lived."""
    rows: dict[str, Row] = field(default_factory=dict)
    reason: str = ""
    """Why it is absent, or not green as a whole."""

    @property
    def is_reference(self) -> bool:
        return self.calling == self.answering == "dynamo"

    @property
    def direction(self) -> str:
        names = {"dynamo": "Dynamo", "reqplane": "ours"}
        return f"{names[self.calling]} → {names[self.answering]}"

    @property
    def is_green(self) -> bool:
        """Its rows are, the required ones ran, and a live Dynamo process has said which it is."""
        live = [peer for peer in self.peers if peer["version"] == self.place.version and peer["pid"]]
        fine = all(row.outcome != "red" for row in self.rows.values())
        return fine and bool(live) and not self.reason and self.rows.keys() >= set(REQUIRED)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "direction": self.direction, "green": self.is_green}


def run_cell(
    stage: Stage,
    calling: Side,
    answering: Side,
    namespace: str,
    reference: Cell | None = None,
    rows: Sequence[str] = tuple(ROWS),
) -> Cell:
    """Run these rows; with a `reference` Dynamo's client must see what it sees there."""
    cell = Cell(stage.place, calling, answering)
    try:
        scene = Scene.set_up(stage, calling, answering, namespace)
    except Trouble as trouble:
        cell.reason = f"it could not be set up: {trouble}"
    else:
        for name in rows:
            cell.rows[name] = _run_row(scene, name, reference)
    cell.peers = [peer.hello for peer in stage.started if peer.hello.get("side") == "dynamo"]
    return cell


def _run_row(scene: Scene, name: str, reference: Cell | None) -> Row:
    began = time.monotonic()
    among = reference.rows.get(name) if reference is not None else None
    try:
        seen = ROWS[name](scene)
    except Trouble as trouble:
        row = Row("red", str(trouble))
        if among is not None and among.outcome != "green" and among.reason == row.reason:
            row = Row("dynamo", f"{trouble} (between two of Dynamo's: {among.reason})")
    else:
        row = Row("green", seen=seen)
        if (
            scene.calling == "dynamo"
            and among is not None
            and among.outcome == "green"
            and seen != among.seen
        ):
            row = Row("red", f"Dynamo's client can tell: {difference(among.seen, seen)}", seen=seen)
    row.seconds = round(time.monotonic() - began, 2)
    return row


def difference(wanted: Any, found: Any, where: str = "") -> str:
    """The first place where two observations differ, in words."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        one, other = cast("Mapping[str, Any]", wanted), cast("Mapping[str, Any]", found)
        for name in one.keys() | other.keys():
            if one.get(name) != other.get(name):
                return difference(one.get(name), other.get(name), f"{where}{name}: ")
    return f"{where}of our worker it sees {found!r}, of Dynamo's own {wanted!r}"
