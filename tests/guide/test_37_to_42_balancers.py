"""The guide, 37 to 42: balancers and containers, by the files of examples/.

What goes on when workers die behind a balancer, 3000 calls, and the files' own names and ports:
tests/system/test_balancers.py and test_examples.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from balancers import EXAMPLES, Balancer, envoy, nginx
from ports import free_ports

from .places import Frontend, Place, Running, eventually, served

pytestmark = pytest.mark.system

ENDPOINT = "default.backend.generate"
PATH = "behind.backend.generate"
TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=value",
    "x-request-id": "the-request",
    "x-dynamo-request-id": "the-dynamo-request",
}


class Behind:
    """Three workers of which discovery tells only the balancer's address."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.ports = free_ports(3)
        self.folder = folder
        self.balancer = nginx(folder, self.ports)
        self.place = Place(folder, {**variables, "DYN_REQUEST_PLANE": "http"})
        advertised = f"127.0.0.1:{self.balancer.port}"
        env = {"DYN_HTTP_RPC_ADVERTISE_HOST": advertised}
        self.workers = [self.place.worker(PATH, **env, DYN_HTTP_RPC_PORT=str(port)) for port in self.ports]
        self.frontend = self.place.frontend()

    @property
    def pids(self) -> set[int]:
        return {worker.pid for worker in self.workers}

    def frontend_of(self, balancer: Balancer) -> Frontend:
        """One that has a balancer's URL, and nothing else."""
        url = f"{PATH}=http://127.0.0.1:{balancer.port}"
        return self.place.frontend(DYN_DISCOVERY_BACKEND="static", DYN_STATIC_INSTANCES=url)

    def close(self) -> None:
        self.place.close()
        self.balancer.close()


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory, variables: Mapping[str, str]) -> Iterator[Behind]:
    fleet = Behind(tmp_path_factory.mktemp("behind"), variables)
    try:
        served(*fleet.workers)
        yield fleet
    finally:
        fleet.close()


def answered(answers: Any) -> list[Any]:
    """What each handler saw; nobody may have failed."""
    assert [answer["error"] for answer in answers if answer["error"]] == []
    return [answer["items"][0] for answer in answers]


def test_guide_37_the_guides_nginx_before_three_workers(behind: Behind):
    seen = answered(behind.frontend.ask(PATH, count=300, at_once=True, workers=3))
    assert {one["pid"] for one in seen} == behind.pids
    assert len({one["id"] for one in seen}) == 300


def test_guide_37_a_call_to_one_worker_gets_there(behind: Behind):
    for number in range(3):
        seen = answered(behind.frontend.ask(PATH, count=6, mode="direct", instance=number, workers=3))
        assert len({one["pid"] for one in seen}) == 1


def test_guide_37_a_frontend_that_has_the_balancers_url_only(behind: Behind):
    frontend = behind.frontend_of(behind.balancer)
    seen = answered(frontend.ask(PATH, count=30, workers=1))
    assert {one["pid"] for one in seen} == behind.pids


def test_guide_38_trace_headers_pass_through_it(behind: Behind):
    for one in answered(behind.frontend.ask(PATH, count=3, headers=TRACE, workers=3)):
        assert TRACE.items() <= one["headers"].items()


def test_guide_39_its_time_outs_suffice_however_long_the_answer(behind: Behind, tmp_path: Path):
    """They are a third of a second here, and the answer takes one."""
    hasty = nginx(tmp_path, behind.ports, proxy_read_timeout="300ms", proxy_send_timeout="300ms")
    try:
        (answer,) = behind.frontend_of(hasty).ask(PATH, {"n": 1, "pause": 1}, workers=1)
        assert answer["error"] is None
        assert answer["items"][1:] == [0]
        (answer,) = behind.frontend_of(hasty).ask(PATH, {"padding": "x" * 1_100_000}, workers=1)
        assert answer["error"][0] == "FrameTooLarge"
        assert "client_max_body_size" in answer["error"][1]
    finally:
        hasty.close()


def test_guide_40_the_guides_envoy_before_three_workers(behind: Behind, tmp_path: Path):
    balancer = envoy(tmp_path, behind.ports)
    try:
        seen = answered(behind.frontend_of(balancer).ask(PATH, count=60, headers=TRACE, workers=1))
        assert {one["pid"] for one in seen} == behind.pids
        assert all(TRACE.items() <= one["headers"].items() for one in seen)
    finally:
        balancer.close()


# ── containers: a machine with the names that their files use ───────────────────────────────────────


@pytest.fixture(scope="module")
def containers(
    tmp_path_factory: pytest.TempPathFactory, machines: Callable[..., tuple[str, ...]]
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("containers")
    place = Place(folder, {}, machines("boxes", "10.77.0.2 etcd backend"))
    try:
        etcd = compose()["etcd"]["command"].replace("/tmp/etcd", str(folder / "etcd"))
        place.start(etcd).says("ready to serve client requests")
        yield place
    finally:
        place.close()


def compose() -> Any:
    return yaml.safe_load((EXAMPLES / "docker-compose" / "docker-compose.yaml").read_text())["services"]


def variables_of(service: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in compose()[service]["environment"])


def works(containers: Place, worker: Running, frontend: Mapping[str, str]) -> None:
    """A call, and what is seen of the worker from outside."""
    served(worker)
    printed = containers.types(f"reqplane call {ENDPOINT} '{{\"n\": 1}}'", **frontend)
    assert f'"pid": {worker.pid}' in printed
    health = containers.types("curl -sS -X POST http://backend:8081/v1/dynamo/health")
    assert json.loads(health)["endpoints"] == {ENDPOINT: "ready"}
    key = "v1/instances/namespace.default.component.backend.endpoint.generate.instance.0"
    record = json.loads(containers.types(f"etcdctl get --print-value-only {key}"))
    assert record["transport"]["http_tcp"]["tcp_endpoint"] == "10.77.0.2:9000"
    assert worker.end() == 0


def test_guide_41_the_kubernetes_file_works(containers: Place):
    documents = yaml.safe_load_all((EXAMPLES / "kubernetes" / "kubernetes.yaml").read_text())
    kinds = {document["kind"]: document for document in documents}
    (container,) = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert [port["containerPort"] for port in container["ports"]] == [8081, 9000]
    assert [port["targetPort"] for port in kinds["Service"]["spec"]["ports"]] == [8081]
    config = kinds["ConfigMap"]["data"]
    works(containers, containers.worker(ENDPOINT, **config), config)


def test_guide_42_the_docker_compose_file_works(containers: Place):
    assert compose()["backend"]["ports"] == ["8081:8081", "9000:9000"]
    worker = containers.worker(ENDPOINT, **variables_of("backend"))
    works(containers, worker, variables_of("frontend"))


def test_guide_42_so_does_its_frontend_for_curl(containers: Place):
    worker = containers.worker(ENDPOINT, **variables_of("backend"))
    front = containers.start(compose()["frontend"]["command"], **variables_of("frontend"))
    served(worker)
    eventually(lambda: containers.run("curl -sf http://localhost:8000/health")[0] == 0, front.printed)
    printed = containers.types(f"curl -sS http://localhost:8000/v1/endpoints/{ENDPOINT} -d '{{\"n\": 2}}'")
    assert str(worker.pid) in printed
    assert front.end() == 0
    assert worker.end() == 0
