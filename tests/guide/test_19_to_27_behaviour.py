"""The guide, 19 to 27: what is the same on every plane, and what many workers are good for."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from typing import Any

import pytest
from servers import Etcd, Nats

from .conftest import Fleet, fleet, started
from .places import Place, eventually, served
from .wiretap import Subscriber, Wiretap, find_frame

pytestmark = pytest.mark.system

TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=a",
    "x-request-id": "the-request",
    "x-dynamo-request-id": "the-dynamo-request",
}


def keys(etcd: Etcd, path: str) -> list[str]:
    namespace, component, endpoint = path.split(".")
    name = f"namespace.{namespace}.component.{component}.endpoint.{endpoint}."
    return etcd.ctl("get", "--prefix", "--keys-only", f"v1/instances/{name}").split()


def records(etcd: Etcd, path: str) -> list[Any]:
    return [json.loads(etcd.ctl("get", "--print-value-only", key)) for key in keys(etcd, path)]


def pids(answers: Any) -> list[int]:
    """Who answered; nobody may have failed."""
    assert not any(answer["error"] for answer in answers), answers
    return [answer["items"][0]["pid"] for answer in answers]


# ── the same on every plane ─────────────────────────────────────────────────────────────────────────


def test_guide_19_discovery_is_the_same_on_every_plane(each: Fleet, here: Place, etcd: Etcd):
    """A worker comes and is called, leaves and is not called any more."""
    path = f"come{each.plane}.backend.generate"
    worker = here.worker(path, DYN_REQUEST_PLANE=each.plane)
    assert pids(each.frontend.ask(path, workers=1)) == [worker.pid]
    assert [key.rpartition(".")[2] for key in keys(etcd, path)] == ["0"]
    assert worker.end() == 0
    assert keys(etcd, path) == []
    (answer,) = each.frontend.ask(path)
    assert answer["error"][0] == "NoInstances"


def test_guide_19_so_is_a_record_but_for_its_transport(fleets: dict[str, Fleet], etcd: Etcd):
    found = {plane: records(etcd, fleet.path) for plane, fleet in fleets.items()}
    assert [len(ours) for ours in found.values()] == [2, 2]
    shapes = {plane: [ours.keys() for ours in theirs] for plane, theirs in found.items()}
    assert shapes["http"] == shapes["nats"]
    transports = {
        plane: {name for ours in theirs for name in ours["transport"]} for plane, theirs in found.items()
    }
    assert transports == {"http": {"http_tcp"}, "nats": {"nats_tcp"}}


def test_guide_20_round_robin_is_the_same_on_every_plane(each: Fleet):
    assert Counter(pids(each.ask(count=10, mode="round_robin", workers=2))) == dict.fromkeys(each.pids, 5)


def test_guide_20_random_is_the_same_on_every_plane(each: Fleet):
    assert set(pids(each.ask(count=40, mode="random", workers=2))) == each.pids


def test_guide_20_direct_is_the_same_on_every_plane(each: Fleet):
    for number in (0, 1, 0):
        answers = each.ask(count=3, mode="direct", instance=number, workers=2)
        assert len(set(pids(answers))) == 1
        assert {answer["instance"] for answer in answers} == {number}


@pytest.mark.parametrize("plane", ["http", "nats"])
def test_guide_20_kv_routing_is_to_come_and_says_so(plane: str, here: Place):
    """On every plane it is the same clear error so far."""
    for way in ("DYN_ROUTER_MODE=kv reqplane call", "reqplane call --router-mode kv"):
        status, printed = here.run(f"{way} a.b.c '{{}}'", DYN_REQUEST_PLANE=plane)
        assert status == 2, printed
        assert re.search(r"'?kv'?\b.*(not|no) ", printed)
        assert printed.rstrip().endswith("see docs/errors.md#SettingsError")


def test_guide_21_trace_and_ids_arrive_at_the_handler_on_every_plane(each: Fleet):
    (answer,) = each.ask(headers=TRACE, id="the-call", workers=2)
    assert answer["error"] is None
    seen = answer["items"][0]
    assert TRACE.items() <= seen["headers"].items()
    assert seen["id"] == "the-call"


# ── ports ───────────────────────────────────────────────────────────────────────────────────────────


def test_guide_22_response_ports_go_up_from_9000(machine: Place, over_http: Fleet, over_nats: Fleet):
    processes = [one for fleet in (over_http, over_nats) for one in (*fleet.workers, fleet.frontend)]
    assert pids(over_http.ask() + over_nats.ask())  # a frontend listens as soon as it has a client
    found = [re.findall(r"TCP \*:(9\d\d\d) \(LISTEN\)", process.sockets()) for process in processes]
    ports = sorted(int(port) for (port,) in found)
    assert ports[0] == 9000
    assert len(set(ports)) == len(ports)
    assert ports[-1] < 9100
    key = "v1/instances/namespace.default.component.backend.endpoint.generate.instance.0"
    record = json.loads(machine.types(f"etcdctl get --print-value-only {key}"))
    assert record["transport"]["http_tcp"]["tcp_endpoint"].rpartition(":")[2] == found[0][0]


def test_guide_23_etcd_is_on_2379(over_http: Fleet, over_nats: Fleet):
    for process in (*over_http.workers, over_http.frontend, *over_nats.workers, over_nats.frontend):
        assert ":2379 (ESTABLISHED)" in process.sockets()


def test_guide_24_nats_is_on_4222(over_nats: Fleet):
    for process in (*over_nats.workers, over_nats.frontend):
        assert ":4222 (ESTABLISHED)" in process.sockets()


# ── the frame ───────────────────────────────────────────────────────────────────────────────────────


def test_guide_25_the_same_two_parts_travel_on_every_plane(here: Place, nats: Nats, etcd: Etcd):
    request = {"n": 2, "text": "which way"}
    over_http = frame_by_http(here, request)
    over_nats = frame_by_nats(here, request, nats, etcd)
    assert over_http[1] == over_nats[1]
    assert b"which way" in over_http[1]
    fixed = {"request_type": "single_in", "response_type": "many_out", "payload_codec": "msgpack"}
    for head, _ in (over_http, over_nats):
        assert fixed.items() <= head.items()
        assert head["connection_info"]["transport"] == "tcp_server"
        info = json.loads(head["connection_info"]["info"])
        assert {"address", "subject", "context", "stream_type"} <= info.keys()
    assert over_http[0].keys() == over_nats[0].keys()


def frame_by_http(here: Place, request: Any) -> Any:
    path = "two.by.http"
    with Wiretap() as tap:
        env = {"DYN_REQUEST_PLANE": "http", "DYN_HTTP_RPC_ADVERTISE_HOST": f"127.0.0.1:{tap.port}"}
        worker, frontend = here.worker(path, **env), here.frontend(**env)
        tap.target = int(worker.says(r"Starting HTTP endpoint server on 127\.0\.0\.1:(\d+)")[1])
        pids(frontend.ask(path, request, workers=1))
        (said,) = tap.said
        return find_frame(bytes(said))


def frame_by_nats(here: Place, request: Any, nats: Nats, etcd: Etcd) -> Any:
    path, env = "two.by.nats", {"DYN_REQUEST_PLANE": "nats"}
    worker, frontend = here.worker(path, **env), here.frontend(**env)
    served(worker)
    (record,) = records(etcd, path)
    subscriber = Subscriber(nats.url, record["transport"]["nats_tcp"])
    pids(frontend.ask(path, request, workers=1))
    heard = subscriber.hears(b"which way")
    subscriber.close()
    return find_frame(heard)


# ── many workers ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("plane", ["http", "nats"])
def test_guide_26_a_router_with_a_threshold_rejects_when_all_are_busy(plane: str, here: Place):
    """Two workers of two requests each; at half their capacity they are busy."""
    path, env = f"busy{plane}.backend.generate", {"DYN_REQUEST_PLANE": plane}
    served(*(here.worker(path, "--max-concurrent", "2", **env) for _ in range(2)))
    frontend = here.frontend(**env)
    ask = {"count": 5, "at_once": True, "workers": 2, "threshold": 0.5}
    answers = frontend.ask(path, {"n": 1, "pause": 0.5}, **ask)
    errors = [answer["error"] for answer in answers if answer["error"]]
    assert [name for name, _ in errors] == ["WorkerBusy"] * 3
    assert all("at least 50% of its capacity" in why for _, why in errors)
    assert len(pids(frontend.ask(path, count=2, threshold=0.5))) == 2


@pytest.mark.parametrize("plane", ["http", "nats"])
def test_guide_27_more_workers_share_the_load_and_one_that_dies_is_replaced(plane: str, here: Place):
    path = f"scale{plane}.backend.generate"
    three = started(fleet(here, plane, path, workers=3))
    assert Counter(pids(three.ask(count=12, workers=3))) == dict.fromkeys(three.pids, 4)
    dead = three.workers[0]
    dead.signal(signal.SIGKILL)
    dead.process.wait()
    left = three.pids - {dead.pid}
    assert set(pids(three.ask(count=30))) == left
    fourth = here.worker(path, DYN_REQUEST_PLANE=plane)
    served(fourth)
    eventually(lambda: fourth.pid in pids(three.ask(count=3)))
