"""What is tried in each cell: one function a row, each on an endpoint of its own.

A row raises Trouble with what went wrong, in words.  What it returns is what the caller saw: a Dynamo client
must see of our worker exactly what it sees of Dynamo's own.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from interop.peer import Peer, Trouble
from interop.stage import Side, Stage

SOON = 10.0
"""Seconds within which a handler must notice that it is not wanted any more …"""
SAID = 3.0
"""… and in which a worker that leaves may tell so, before it gets new requests."""

LARGE = "0123456789abcdef" * 65536
"""1 MiB."""
VALUES: Mapping[str, Any] = {
    "empty text": "",
    "empty object": {},
    "empty list": [],
    "None": None,
    "false": False,
    "zero": 0,
    "numbers": [-1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 0.5, -1e-300, 1e300],
    "unicode": 'Zürich 東京 🚲 \u0000 \u2028 \\ "quoted" \n',
    "unicode names": {"größe": 1, "": 2, "🚲": 3},
    "nested": {"a": [{"b": [[], {}, [None, [1, [2, [3, {"c": {"d": {"e": "f"}}}]]]]]}]},
    "deep": json.loads("[" * 60 + "]" * 60),
}

ERRORS = (
    *("ValueError", "TypeError", "RuntimeError", "KeyError"),
    *("TimeoutError", "ConnectionRefusedError", "ConnectionResetError"),
)
"""What handlers raise: Dynamo 1.6 tells its clients four kinds of them."""

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01", "x-request-id": "interop-7"}


@dataclass
class Scene:
    """A cell: who calls, who answers, and the processes that all of its rows share."""

    stage: Stage
    calling: Side
    answering: Side
    namespace: str
    client: Peer
    worker: Peer
    _numbers: Any = field(default_factory=itertools.count)

    @classmethod
    def set_up(cls, stage: Stage, calling: Side, answering: Side, namespace: str) -> Scene:
        """One worker and one client that knows it."""
        client = stage.client(calling)
        worker = stage.worker(answering, f"{namespace}.plain.generate")
        scene = cls(stage, calling, answering, namespace, client, worker)
        scene.known(scene.path("plain"), 1)
        return scene

    @property
    def is_reference(self) -> bool:
        """Between Dynamo's own: what is wanted of ours."""
        return self.calling == self.answering == "dynamo"

    def our_client(self) -> Peer:
        return self.client if self.calling == "reqplane" else self.stage.client("reqplane")

    @property
    def other(self) -> Side:
        """Whose workers stand beside the cell's own where both sides do; between Dynamo's there is one."""
        return "dynamo" if self.answering == "reqplane" else self.calling

    def path(self, component: str) -> str:
        return f"{self.namespace}.{component}.generate"

    def known(self, path: str, n: int) -> list[int]:
        """Wait until the client knows exactly so many workers."""
        self.client.tell("wait", path=path, n=n)
        ids: list[int] = self.client.wait("known", path=path)["ids"]
        return ids

    def call(self, request: Any, path: str | None = None, **how: Any) -> str:
        """Begin a call; its name."""
        call = f"call-{next(self._numbers)}"
        self.client.tell("call", call=call, path=path or self.path("plain"), request=request, **how)
        return call

    def items(self, call: str, n: int) -> list[Any]:
        """Its next items."""
        items: list[Any] = []
        for _ in range(n):
            event = self.client.wait("item", "error", "whole", call=call)
            if event["event"] != "item":
                raise Trouble(f"wanted {n} items, found {len(items)} and then {_shown(event)}")
            items.append(event["item"])
        return items

    def rest(self, call: str) -> tuple[list[Any], dict[str, Any]]:
        """All that still comes of it, and its end."""
        items: list[Any] = []
        while (event := self.client.wait("item", "error", "whole", "dropped", call=call))["event"] == "item":
            items.append(event["item"])
        return items, event

    def whole(self, call: str) -> list[Any]:
        """The rest of a call that must come whole."""
        items, end = self.rest(call)
        if end["event"] != "whole":
            raise Trouble(f"wanted the whole answer, found {len(items)} items and then {_shown(end)}")
        return items

    def failed(self, call: str) -> dict[str, Any]:
        """What a call that must fail tells: how many items came before, and the exception."""
        items, end = self.rest(call)
        if end["event"] != "error":
            raise Trouble(f"wanted an error, found {len(items)} items and then {_shown(end)}")
        return {name: end[name] for name in ("items", "type", "lineage", "text")}


def _shown(event: Mapping[str, Any]) -> str:
    if event["event"] == "error":
        return f"{event['type']}: {event['text']}"
    return f"the end ({event['event']})"


def _same(wanted: Any, found: Any, what: str) -> None:
    """Equal, types too: 1 is neither True nor 1.0."""
    if json.dumps(wanted, sort_keys=True) != json.dumps(found, sort_keys=True):
        raise Trouble(f"{what}: wanted {json.dumps(wanted)[:200]}, found {json.dumps(found)[:200]}")


# ── the rows ────────────────────────────────────────────────────────────────────────────────────────


def plain_stream(scene: Scene) -> Any:
    """Items come in order, while the handler still runs."""
    call = scene.call({"do": "count", "n": 6, "gate": 3})
    first = scene.items(call, 3)
    scene.worker.tell("open", call=call)  # only now: so the first three came while it ran
    items = first + scene.whole(call)
    _same(list(range(6)), [item["i"] for item in items], "the items")
    scene.worker.wait("ended", call=call)
    empty = scene.call({"do": "count", "n": 0})
    _same([], scene.whole(empty), "an answer without items")
    return None


def values(scene: Scene) -> Any:
    """Each value there and back, also 1 MiB both ways, as it was.

    A value that Dynamo's client leaves out is its own affair: that is compared, not judged.
    """
    lost: list[str] = []
    for name, value in VALUES.items():
        found = scene.whole(scene.call({"do": "values", "values": [value]}))
        if scene.calling == "dynamo" and not found:
            lost.append(name)
        else:
            _same([value], found, name)
    for request in ("text", [], [1, "2"], 7, True):
        _same([request], scene.whole(scene.call(request)), "a request that is no object")
    for value in (LARGE, {"large": LARGE}):
        if scene.whole(scene.call({"do": "values", "values": [value]})) != [value]:
            raise Trouble("1 MiB came back as something else")
    return {"lost": lost}


def error_before(scene: Scene) -> Any:
    """A handler that raises at once; typed as Dynamo types it."""
    seen = {}
    for kind in ERRORS:
        call = scene.call({"do": "fail", "n": 0, "error": kind, "text": "early bad"})
        seen[kind] = told = scene.failed(call)
        if told["items"] or "early bad" not in told["text"]:
            raise Trouble(f"{kind} before the first item looks like this to the caller: {told}")
    return seen


def error_between(scene: Scene) -> Any:
    """A handler that raises after some items: they come, then the error."""
    seen = {}
    for kind in ("ValueError", "RuntimeError"):
        call = scene.call({"do": "fail", "n": 2, "error": kind, "text": "late bad"})
        seen[kind] = told = scene.failed(call)
        if told["items"] != 2 or "late bad" not in told["text"]:
            raise Trouble(f"{kind} after two items looks like this to the caller: {told}")
    return seen


def stop(scene: Scene) -> Any:
    """The caller asks the handler to finish early; it sees that and ends."""
    call = scene.call({"do": "endless"})
    scene.items(call, 3)
    scene.client.tell("stop", call=call)
    told = scene.worker.wait("stopped", "cut", "ended", "failed", call=call, within=SOON)
    _, end = scene.rest(call)
    return {"handler": _fate(told), "caller": end["event"], "type": end.get("type")}


def drop(scene: Scene) -> Any:
    """The caller drops the stream; the handler must not run on."""
    call = scene.call({"do": "endless"})
    scene.items(call, 3)
    scene.client.tell("drop", call=call)
    told = scene.worker.wait("stopped", "cut", "ended", "failed", call=call, within=SOON)
    return {"handler": _fate(told)}


def _fate(told: Mapping[str, Any]) -> str:
    """Whether the handler noticed; how it was told is each side's own way."""
    if told["event"] not in ("stopped", "cut"):
        raise Trouble(f"the handler did not notice that it was not wanted any more: {told['event']}")
    return "noticed"


def killed(scene: Scene) -> Any:
    """kill -9 in mid-stream: the caller sees a broken stream, never an answer that looks whole."""
    path = scene.path("killed")
    worker = scene.stage.worker(scene.answering, path)
    scene.known(path, 1)
    call = scene.call({"do": "count", "n": 6, "gate": 3}, path)
    scene.items(call, 3)
    worker.kill()
    told = scene.failed(call)
    scene.client.tell("wait", path=path, n=0)  # what comes of that is the last row
    return told


def forgotten(scene: Scene) -> Any:
    """Discovery lets go of the worker that was killed, and only of that one."""
    scene.client.wait("known", path=scene.path("killed"), ids=[])
    scene.known(scene.path("plain"), 1)
    return None


def drain(scene: Scene) -> Any:
    """SIGTERM to a worker with running requests: they finish, and new ones go elsewhere."""
    path = scene.path("drain")
    leaving, staying = (scene.stage.worker(scene.answering, path) for _ in range(2))
    scene.known(path, 2)
    calls = [scene.call({"do": "count", "n": 6, "gate": 3}, path) for _ in range(4)]
    held: dict[str, str] = {}
    for call in calls:
        held[call] = scene.items(call, 3)[-1]["worker"]
    there = Counter(held.values())
    if len(there) != 2:
        raise Trouble(f"four requests, one after the other, went to {dict(there)}")
    name = leaving.log.stem
    leaving.terminate()
    scene.client.tell("wait", path=path, n=1)
    with suppress(Trouble):  # some versions say so only when the last request is over
        scene.client.wait("known", path=path, within=SAID)
    for _ in range(6):
        items = scene.whole(scene.call({"do": "count", "n": 2}, path))
        if any(item["worker"] == name for item in items):
            raise Trouble("a new request went to the worker that leaves")
    if leaving.process.poll() is not None:
        raise Trouble("the worker left while its requests still ran")
    for call in calls:
        (leaving if held[call] == name else staying).tell("open", call=call)
    for call in calls:
        _same([3, 4, 5], [item["i"] for item in scene.whole(call)], "the rest of a request that ran")
    leaving.wait("left")
    if (status := leaving.ended()) and scene.answering == "reqplane":  # Dynamo's crash when they are done
        raise Trouble(f"the worker that left in order ended with status {status}")
    return None


def chain(scene: Scene) -> Any:
    """A handler that calls on, to the caller's side again: items, a stop and a kill go through both hops."""
    path, beyond = scene.path("chain"), scene.path("beyond")
    last = scene.stage.worker(scene.calling, beyond)
    scene.stage.relay(scene.answering, path, beyond)
    scene.known(path, 1)
    for do in ("stop", "drop"):
        call = scene.call({"do": "relayed", "onward": {"do": "endless", "call": do}}, path)
        scene.items(call, 3)
        scene.client.tell(do, call=call)
        _fate(last.wait("stopped", "cut", "ended", "failed", call=do, within=SOON))
        scene.rest(call)
    return None


def mixed(scene: Scene) -> Any:
    """Two workers of each side behind one client: each gets its share, and answers when it is meant."""
    path = scene.path("mixed")
    workers = [scene.stage.worker(side, path) for side in (scene.answering, scene.other) for _ in range(2)]
    ids = scene.known(path, 4)
    calls = [scene.call({"do": "count", "n": 3}, path) for _ in range(24)]
    shares = Counter(items[-1]["worker"] for call in calls if (items := scene.whole(call)))
    names = {worker.log.stem for worker in workers}
    if set(shares) != names or min(shares.values()) < 3:
        raise Trouble(f"24 requests in turn went to {dict(shares)}, of {sorted(names)}")
    meant = [scene.call({"do": "count", "n": 1}, path, instance=instance) for instance in ids for _ in "12"]
    answered = [scene.whole(call)[0]["worker"] for call in meant]
    if answered[::2] != answered[1::2] or set(answered) != names:
        raise Trouble(f"two requests to each of them by its number were answered by {answered}")
    return None


def trace(scene: Scene) -> Any:
    """traceparent and x-request-id arrive at the handler.

    A program can't give them to Dynamo's client: that sends those of the request that it is called in.  So
    the call goes by a Dynamo worker that calls on, and what is looked at is the hop that the cell is about.
    """
    path = scene.path("relay")
    relay = scene.stage.relay("dynamo", path, scene.path("plain"))
    origin = scene.client if scene.is_reference else scene.our_client()
    origin.tell("wait", path=path, n=1)
    origin.wait("known", path=path)
    request = {"do": "relayed", "onward": {"do": "count", "n": 1, "call": "relayed"}}
    how = {} if scene.is_reference else {"headers": HEADERS}
    origin.tell("call", call="origin", path=path, request=request, **how)
    end = origin.wait("whole", "error", call="origin")
    if end["event"] != "whole":
        raise Trouble(f"the relayed call failed: {_shown(end)}")
    begun = relay.wait("began", call="origin")["trace"]["trace_id"]
    arrived = scene.worker.wait("began", call="relayed")
    if scene.is_reference:
        _same_trace(begun, arrived["trace"]["trace_id"])
    elif scene.answering == "reqplane":
        headers: dict[str, str] = arrived["headers"]
        _same_trace(begun, headers.get("traceparent", "--").split("-")[1])
        _same(HEADERS["x-request-id"], headers.get("x-request-id"), "x-request-id at our handler")
    else:
        _same_trace(TRACE_ID, begun)
        if f'"x_request_id":"{HEADERS["x-request-id"]}"' not in relay.log.read_text():
            raise Trouble("Dynamo's worker does not know of x-request-id")
    return None


def _same_trace(wanted: str, found: str) -> None:
    if wanted != found:
        raise Trouble("the handler is in a trace of its own, not in that of its caller")


ROWS: Mapping[str, Callable[[Scene], Any]] = {
    "stream": plain_stream,
    "values": values,
    "error before": error_before,
    "error between": error_between,
    "stop": stop,
    "kill": drop,
    "worker killed": killed,
    "trace": trace,
    "chain": chain,
    "mixed": mixed,
    "drain": drain,
    "forgotten": forgotten,
}
