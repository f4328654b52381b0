"""The guide, 28 to 36: what a user types to see that it works, on the guide's own ports."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from .conftest import Fleet
from .places import Place, eventually

pytestmark = pytest.mark.system

NAME = "namespace.default.component.backend.endpoint.generate.instance.0"
HEALTH = "http://localhost:8081/v1/dynamo/health"


def record(machine: Place) -> Any:
    return json.loads(machine.types(f"etcdctl get --print-value-only v1/instances/{NAME}"))


@pytest.mark.parametrize("method", ["-X POST", "-X GET", "--http2-prior-knowledge -X POST"])
def test_guide_28_curl_gets_the_health_of_a_worker(machine: Place, over_http: Fleet, method: str):
    printed = machine.types(f"curl -sS {method} -w '%{{http_code}} %{{content_type}}' {HEALTH}")
    state, _, head = printed.rpartition("\n")
    assert head == "200 application/json"
    assert json.loads(state) == {"status": "healthy", "endpoints": {"default.backend.generate": "ready"}}


def test_guide_28_a_head_is_enough(machine: Place, over_http: Fleet):
    assert machine.types(f"curl -sS --http1.1 -I {HEALTH}").startswith("HTTP/1.1 200")


def test_guide_29_lsof_shows_the_listener(machine: Place, over_http: Fleet):
    head, line = machine.types("lsof -nP -i :8081 -s TCP:LISTEN").splitlines()
    assert head.split()[:2] == ["COMMAND", "PID"]
    assert line.split()[1] == str(over_http.workers[0].pid)
    assert line.endswith("TCP *:8081 (LISTEN)")


def test_guide_30_etcdctl_lists_instances(machine: Place, over_http: Fleet, over_nats: Fleet):
    keys = machine.types("etcdctl get --prefix v1/instances/ --keys-only").split()
    assert {f"v1/instances/{NAME}", f"v1/instances/{NAME.replace('backend', 'other')}"} <= set(keys)


def test_guide_31_the_first_instance_has_the_number_0(machine: Place, over_http: Fleet):
    key, value = machine.types(f"etcdctl get v1/instances/{NAME}").splitlines()
    assert key == f"v1/instances/{NAME}"
    assert json.loads(value)["instance_id"] == 0


def test_guide_31_numbers_are_the_lowest_free_ones_and_incarnations_random(machine: Place):
    path, env = "numbers.b.generate", {"DYN_REQUEST_PLANE": "http", "DYN_HTTP_RPC_PORT": "0"}
    workers, said = [], []
    for _ in range(3):  # one after the other: those that begin at once may leave numbers out
        workers.append(machine.worker(path, **env))
        said.append(workers[-1].says(r"serving \S+ as instance (\d+)")[1])
    assert said == ["0", "1", "2"]
    query = "etcdctl get --prefix --print-value-only v1/instances/namespace.numbers."
    before = [json.loads(line) for line in machine.types(query).splitlines()]
    first = workers[0]
    assert first.end() == 0
    again = machine.worker(path, **env)
    assert again.says(r"serving \S+ as instance (\d+)")[1] == "0"
    after = [json.loads(line) for line in machine.types(query).splitlines()]
    assert [one["instance_id"] for one in after] == [0, 1, 2]
    assert len({one["incarnation"] for one in (*before, *after)}) == 4
    for worker in (*workers, again):
        worker.kill()


def test_guide_32_the_value_tells_the_http_endpoint(machine: Place, over_http: Fleet):
    """The advertised host: the machine's address, not 0.0.0.0."""
    url = f"http://10.77.0.2:8081/v1/dynamo/{NAME}"
    assert record(machine)["transport"]["http_tcp"]["http_endpoint"] == url
    assert json.loads(machine.types("curl -sS http://10.77.0.2:8081/v1/dynamo/health"))["status"] == "healthy"


def test_guide_33_and_the_tcp_endpoint(machine: Place, over_http: Fleet):
    address = record(machine)["transport"]["http_tcp"]["tcp_endpoint"]
    found = re.fullmatch(r"10\.77\.0\.2:(9\d\d\d)", address)
    assert found
    assert f"TCP *:{found[1]} (LISTEN)" in over_http.workers[0].sockets()


def test_guide_34_the_worker_logs_that_it_starts(over_http: Fleet):
    over_http.workers[0].says(r"Starting HTTP endpoint server on 0\.0\.0\.0:8081\n")


# ── the front ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "program", ["reqplane frontend --http-port 8000", "python -m reqplane.frontend --http-port=8001"]
)
def test_guide_35_36_a_front_counts_http_requests(machine: Place, over_http: Fleet, program: str):
    """The guide's lines: it is started, asked, and its /metrics grepped."""
    front = machine.start(f"env {program}", DYN_REQUEST_PLANE="http")
    url = f"http://localhost:{program[-4:]}"
    eventually(lambda: machine.run(f"curl -sf {url}/health")[0] == 0, front.printed)
    items = machine.types(f"curl -sS {url}/v1/endpoints/default.backend.generate -d '{{\"n\": 2}}'")
    assert str(over_http.workers[0].pid) in items
    printed = machine.types(f"curl -sS {url}/metrics | grep http_requests")
    counted = re.findall(
        r'^http_requests_total\{.*/v1/endpoints/.*status="200"\} (\S+)$', printed, re.MULTILINE
    )
    assert sum(map(float, counted)) == 1
    assert front.end() == 0
