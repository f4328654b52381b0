"""The guide, 1 to 14: configuration."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from .conftest import Fleet
from .places import Frontend, Place, Running, served

pytestmark = pytest.mark.system

PREFIX = "v1/instances/namespace."


def transport(place: Place, path: str, number: int = 0) -> Any:
    """What a worker's record says of how to reach it, by etcdctl."""
    namespace, component, endpoint = path.split(".")
    key = f"{PREFIX}{namespace}.component.{component}.endpoint.{endpoint}.instance.{number}"
    return json.loads(place.types(f"etcdctl get --print-value-only {key}"))["transport"]


def connections(machine: Place) -> int:
    """How many NATS has had since it was started."""
    return json.loads(machine.types("curl -s http://localhost:8222/varz"))["total_connections"]


def plane_of(answers: Any) -> str:
    (answer,) = answers
    assert answer["error"] is None
    return answer["plane"]


# ── the plane ───────────────────────────────────────────────────────────────────────────────────────


def test_guide_01_unset_means_nats(machine: Place, over_nats: Fleet):
    assert list(transport(machine, over_nats.path)) == ["nats_tcp"]
    assert plane_of(over_nats.ask(workers=1)) == "nats"
    assert ":4222 (ESTABLISHED)" in over_nats.workers[0].sockets()


def test_guide_02_nats_means_nats(fleets: dict[str, Fleet], nats: Any):
    fleet = fleets["nats"]
    assert plane_of(fleet.ask(workers=2)) == "nats"
    port = f"127.0.0.1:{nats.port} (ESTABLISHED)"
    assert all(port in process.sockets() for process in [*fleet.workers, fleet.frontend])


def test_guide_03_http_means_http(fleets: dict[str, Fleet], nats: Any):
    fleet = fleets["http"]
    assert plane_of(fleet.ask(workers=2)) == "http"
    assert all(f":{nats.port}" not in process.sockets() for process in [*fleet.workers, fleet.frontend])


def test_guide_04_to_switch_takes_one_variable_and_a_restart(here: Place):
    """The same two programs, three times: NATS, HTTP, and back."""
    seen: list[str] = []
    for plane in ("nats", "http", "nats"):
        path, env = f"switch{len(seen)}.backend.generate", {"DYN_REQUEST_PLANE": plane}
        worker, frontend = here.start(f"python work.py {path}", **env), here.frontend(**env)
        seen.append(plane_of(frontend.ask(path, workers=1)))
        assert worker.end() == 0
    assert seen == ["nats", "http", "nats"]


def test_guide_05_set_through_os_environ_before_the_start(machine: Place, over_http: Fleet):
    """The guide's own lines; its port is taken here, so the error tells that they were read."""
    worker = machine.start("python work_over_http.py default.third.generate")
    worker.says(r"DYN_HTTP_RPC_PORT='8081': the address 0\.0\.0\.0:8081 is taken by process \d+ ")
    assert worker.process.wait(10) != 0
    held = over_http.workers[0]
    assert f"process {held.pid} " in worker.printed()


def test_guide_06_set_in_the_line_that_starts_it(here: Place, fleets: dict[str, Fleet]):
    path = "inline.backend.generate"
    worker = here.start(f"env DYN_REQUEST_PLANE=http python -m work {path}")
    assert plane_of(fleets["http"].frontend.ask(path, workers=1)) == "http"
    assert worker.end() == 0


# ── the other variables ─────────────────────────────────────────────────────────────────────────────


def endpoint_of(machine: Place, over_http: Fleet) -> str:
    return transport(machine, over_http.path)["http_tcp"]["http_endpoint"]


def test_guide_07_the_host_is_0_0_0_0_by_default(machine: Place, over_http: Fleet):
    """It can be reached by each address of the machine."""
    assert "TCP *:8081 (LISTEN)" in over_http.workers[0].sockets()
    for host in ("localhost", "127.0.0.8", "10.77.0.2"):
        assert "ready" in machine.types(f"curl -sS http://{host}:8081/v1/dynamo/health")


def test_guide_08_the_port_is_8081_by_default(machine: Place, over_http: Fleet):
    assert ":8081/" in endpoint_of(machine, over_http)


def test_guide_09_the_root_path_is_v1_dynamo_by_default(machine: Place, over_http: Fleet):
    assert ":8081/v1/dynamo/namespace.default." in endpoint_of(machine, over_http)


def test_guide_10_the_time_out_is_5_seconds_by_default(machine: Place):
    """As the doctor lists it.  What the time-out does: 11 and 47."""
    line = machine.types("reqplane doctor | grep ^DYN_HTTP_REQUEST_TIMEOUT", DYN_REQUEST_PLANE="http")
    assert line.split()[1:] == ["5", "default"]


def test_guide_11_each_is_honoured_when_set(machine: Place):
    path = "set.backend.generate"
    env = {"DYN_REQUEST_PLANE": "http", "DYN_HTTP_RPC_HOST": "10.77.0.2", "DYN_HTTP_RPC_PORT": "18081"}
    worker = machine.worker(path, **env, DYN_HTTP_RPC_ROOT_PATH="/other/root")
    frontend = machine.frontend(DYN_REQUEST_PLANE="http", DYN_HTTP_REQUEST_TIMEOUT="0.4")
    served(worker)
    assert "TCP 10.77.0.2:18081 (LISTEN)" in worker.sockets()
    name = "namespace.set.component.backend.endpoint.generate.instance.0"
    url = transport(machine, path)["http_tcp"]["http_endpoint"]
    assert url == f"http://10.77.0.2:18081/other/root/{name}"
    assert plane_of(frontend.ask(path, workers=1)) == "http"
    _times_out_after_0_4_seconds(worker, frontend, path)


def _times_out_after_0_4_seconds(worker: Running, frontend: Frontend, path: str) -> None:
    worker.signal(signal.SIGSTOP)
    (answer,) = frontend.ask(path)
    assert answer["error"][0] == "DeliveryUnknown"
    assert "0.4 s" in answer["error"][1]
    worker.kill()


def test_guide_12_a_frontend_may_carry_the_name_of_the_backend(machine: Place):
    """The guide's record, byte for byte, has a wildcard as host: the frontend dials this name instead.

    `backend` is 127.0.0.8 there, and the worker listens on no other address.
    """
    path, name = "wild.backend.generate", "namespace.wild.component.backend.endpoint.generate.instance.0"
    static = {"DYN_DISCOVERY_BACKEND": "static", "DYN_STATIC_INSTANCES": f"{path}=http://nowhere:1"}
    plane = {"DYN_REQUEST_PLANE": "http", "DYN_HTTP_RPC_PORT": "18082"}
    worker = machine.worker(path, **plane, **static, DYN_HTTP_RPC_HOST="127.0.0.8")
    worker.says("serving")
    url = f"http://0.0.0.0:18082/v1/dynamo/{name}"
    record = {"transport": {"http_tcp": {"http_endpoint": url, "tcp_endpoint": "0.0.0.0:9000"}}}
    machine.types(f"etcdctl put v1/instances/{name} '{json.dumps(record)}'")
    frontend = machine.frontend(**plane, DYN_HTTP_RPC_HOST="backend")
    assert plane_of(frontend.ask(path, workers=1)) == "http"
    assert ":18082 (LISTEN)" not in frontend.sockets()
    machine.types(f"etcdctl del v1/instances/{name}")


def test_guide_13_in_http_mode_nothing_connects_to_nats(machine: Place):
    before = connections(machine)
    path, env = "quiet.backend.generate", {"DYN_REQUEST_PLANE": "http", "DYN_HTTP_RPC_PORT": "0"}
    worker, frontend = machine.worker(path, **env), machine.frontend(**env)
    assert plane_of(frontend.ask(path, workers=1)) == "http"
    for process in (worker, frontend):
        assert ":4222" not in process.sockets()
        assert ":2379 (ESTABLISHED)" in process.sockets()
    assert worker.end() == 0
    assert connections(machine) == before


def test_guide_14_unset_rolls_back_to_nats(machine: Place):
    restart = machine.folder / "restart.sh"
    restart.write_text("unset DYN_REQUEST_PLANE\nexec reqplane serve work:generate back.b.generate")
    worker = machine.start(f"sh {restart}", DYN_REQUEST_PLANE="http")
    served(worker)
    assert list(transport(machine, "back.b.generate")) == ["nats_tcp"]
    assert worker.end() == 0
