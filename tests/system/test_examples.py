"""The files of examples/: they contain the guide's, and what they say is what runs.

Statements 12, 37 and 40 to 42.  Each container is a machine of its own here (see machines.py), with the
variables that its file gives it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from balancers import EXAMPLES, ROOT, envoy_example, envoy_program, nginx_program, socket_address
from machines import Machines

pytestmark = pytest.mark.system

GUIDE = ROOT / "tests" / "golden" / "guide"
HERE = Path(__file__).parent
ENDPOINT = "default.backend.generate"
PATIENCE = 20.0


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def contains(whole: Any, part: Any) -> bool:
    """Whether everything in `part` is in `whole`, which may have more."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            key in whole and contains(whole[key], value) for key, value in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(contains(one, item) for one in whole) for item in part)
    return whole == part


# ── what they say ───────────────────────────────────────────────────────────────────────────────────


def test_guide_37_the_nginx_file_is_the_guides_own() -> None:
    assert (EXAMPLES / "nginx" / "dynamo.conf").read_text() == (GUIDE / "nginx.conf").read_text()


@pytest.mark.parametrize("kind", ["envoy/envoy", "docker-compose/docker-compose", "kubernetes/kubernetes"])
def test_guide_40_41_42_the_other_files_contain_the_guides(kind: str) -> None:
    theirs = documents(GUIDE / f"{Path(kind).name}.yaml")
    assert contains(documents(EXAMPLES / f"{kind}.yaml"), theirs)


def test_contains_sees_what_is_missing() -> None:
    assert contains({"a": [1, {"b": 2, "c": 3}]}, {"a": [{"b": 2}]})
    assert not contains({"a": [1, {"b": 2, "c": 3}]}, {"a": [{"b": 3}]})
    assert not contains({"a": 1}, {"b": 1})


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / "docker-compose/docker-compose.yaml").read_text())
    return found["services"]


def compose_env(service: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in compose()[service]["environment"])


def kubernetes(kind: str) -> dict[str, Any]:
    (found,) = [one for one in documents(EXAMPLES / "kubernetes/kubernetes.yaml") if one["kind"] == kind]
    return found


def container() -> dict[str, Any]:
    (found,) = kubernetes("Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def test_guide_41_the_parts_of_the_kubernetes_file_fit_together() -> None:
    deployment, service = kubernetes("Deployment")["spec"], kubernetes("Service")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert service["selector"].items() <= labels.items()
    assert container()["envFrom"] == [{"configMapRef": {"name": kubernetes("ConfigMap")["metadata"]["name"]}}]
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert {port["targetPort"] for port in service["ports"]} <= set(ports.values())
    assert container()["readinessProbe"]["httpGet"]["port"] in ports


def test_guide_42_nothing_in_the_compose_file_needs_nats() -> None:
    assert set(compose()) == {"backend", "frontend", "etcd"}
    assert "nats" not in str(compose()).lower()


# ── what runs ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def machines() -> Iterator[Callable[..., Machines]]:
    made: list[Machines] = []

    def make(*names: str, **aliases: str) -> Machines:
        made.append(Machines(names, aliases))
        return made[-1]

    yield make
    for one in made:
        one.close()


def clean(env: dict[str, str], folder: Path) -> dict[str, str]:
    """What a container has: the variables of its file, and discovery by a folder instead of etcd."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, "DYN_DISCOVERY_BACKEND": "file", "DYN_FILE_KV": str(folder), **env}


def words(command: Any) -> list[str]:
    """How a container is started, with its program taken from the tests' own environment."""
    found = shlex.split(command) if isinstance(command, str) else list(command)
    assert found[0] == "reqplane"
    return [sys.executable, "-m", *found]


def call(machines: Machines, name: str, env: dict[str, str], request: str = '{"n": 3}') -> list[Any]:
    """`reqplane call`: the items."""
    status, printed = machines.run(name, words(["reqplane", "call", ENDPOINT, request]), env=env, cwd=HERE)
    assert status == 0, printed
    return [json.loads(line) for line in printed.splitlines()]


def wait_for(machines: Machines, name: str, url: str) -> str:
    """What curl gets, once somebody listens there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        status, printed = machines.run(name, ["curl", "-sS", "-X", "POST", url])
        if status == 0 or time.monotonic() > deadline:
            assert status == 0, printed
            return printed
        time.sleep(0.1)


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
WORKER = EXAMPLES / "docker-compose"


@needs_curl
def test_guide_12_42_compose_runs_with_its_variables_and_ports(
    machines: Callable[..., Machines], tmp_path: Path
) -> None:
    """The worker as `backend`, the frontend's own HTTP port, and a call through both."""
    net, services = machines("frontend", "backend"), compose()
    backend, frontend = (clean(compose_env(name), tmp_path) for name in ("backend", "frontend"))
    net.start("backend", words(services["backend"]["command"]), env=backend, cwd=WORKER)
    port = services["backend"]["ports"][0].split(":")[1]
    health = json.loads(wait_for(net, "frontend", f"http://backend:{port}/v1/dynamo/health"))
    assert ENDPOINT in str(health)
    assert call(net, "frontend", frontend) == [{"i": 0}, {"i": 1}, {"i": 2}]

    net.start("frontend", words(services["frontend"]["command"]), env=frontend, cwd=WORKER)
    published = services["frontend"]["ports"][0].split(":")[1]
    base = f"http://frontend:{published}"
    wait_for(net, "backend", f"{base}/health")
    request = ["curl", "-sS", "-N", f"{base}/v1/endpoints/{ENDPOINT}", "-d", '{"n": 2}']
    status, printed = net.run("backend", request)
    assert status == 0
    assert '{"i":1}' in printed.replace(" ", "")


@needs_curl
def test_guide_12_a_record_with_a_wildcard_is_reached_at_the_frontends_own_name_for_it(
    machines: Callable[..., Machines], tmp_path: Path
) -> None:
    """The record as the guide prints it, `http://0.0.0.0:8081/…`, and DYN_HTTP_RPC_HOST=backend."""
    net = machines("frontend", "backend")
    unlisted = clean(compose_env("backend"), tmp_path) | {
        "DYN_DISCOVERY_BACKEND": "static",
        "DYN_STATIC_INSTANCES": f"{ENDPOINT}=http://backend:8081",
    }
    net.start("backend", words(compose()["backend"]["command"]), env=unlisted, cwd=WORKER)
    wait_for(net, "frontend", "http://backend:8081/v1/dynamo/health")
    name = "namespace.default.component.backend.endpoint.generate.instance.0"
    (tmp_path / "v1" / "instances").mkdir(parents=True)
    record = {
        "transport": {
            "http_tcp": {
                "http_endpoint": f"http://0.0.0.0:8081/v1/dynamo/{name}",
                "tcp_endpoint": "0.0.0.0:9000",
            }
        }
    }
    (tmp_path / "v1" / "instances" / name).write_text(json.dumps(record))
    frontend = clean(compose_env("frontend"), tmp_path)
    assert call(net, "frontend", frontend) == [{"i": 0}, {"i": 1}, {"i": 2}]


@needs_curl
def test_guide_41_kubernetes_runs_with_its_config_map_and_ports(
    machines: Callable[..., Machines], tmp_path: Path
) -> None:
    """The ConfigMap in both, the Service's name for the worker's machine, and the frontend by both ways."""
    net = machines("frontend", "pod", **{kubernetes("Service")["metadata"]["name"]: "pod"})
    config = clean(kubernetes("ConfigMap")["data"], tmp_path)
    net.start("pod", words(container()["command"]), env=config, cwd=WORKER)
    (service,) = kubernetes("Service")["spec"]["ports"]
    origin = f"http://{kubernetes('Service')['metadata']['name']}:{service['port']}"
    wait_for(net, "frontend", origin + container()["readinessProbe"]["httpGet"]["path"])
    assert call(net, "frontend", config) == [{"i": 0}, {"i": 1}, {"i": 2}]
    by_service = {"DYN_DISCOVERY_BACKEND": "static", "DYN_STATIC_INSTANCES": f"{ENDPOINT}={origin}"}
    assert call(net, "frontend", config | by_service) == [{"i": 0}, {"i": 1}, {"i": 2}]
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    (record,) = [json.loads(path.read_text()) for path in tmp_path.glob("v1/instances/*.instance.0")]
    plane = record["transport"]["http_tcp"]
    assert f":{ports['http-rpc']}/" in plane["http_endpoint"]
    assert plane["tcp_endpoint"] == f"{net.address['pod']}:{ports['tcp-stream']}"


FRONTEND = """
import asyncio, collections, json, reqplane

async def main():
    async with reqplane.connect() as runtime:
        client = await runtime.endpoint("default.backend.generate").client()
        await client.wait_for_instances(timeout=20)
        pids = collections.Counter()
        for _ in range(30):
            async for item in client.generate({}):
                pids[item["pid"]] += 1
        print("ANSWERED", json.dumps(sorted(pids.values())), len(client.instances()))

asyncio.run(main())
"""


def three_workers(net: Machines, env: dict[str, str]) -> None:
    for number in (1, 2, 3):
        command = words(["reqplane", "serve", "handlers:context", ENDPOINT])
        net.start(f"backend-{number}", command, env=env, cwd=HERE)
    for number in (1, 2, 3):
        wait_for(net, "frontend", f"http://backend-{number}:8081/v1/dynamo/health")


def answered(net: Machines, env: dict[str, str]) -> tuple[list[int], int]:
    """How many calls each worker answered, and how many instances the frontend knew."""
    status, printed = net.run("frontend", [sys.executable, "-c", FRONTEND], env=env, cwd=HERE)
    found = re.search(r"ANSWERED (\[.*\]) (\d+)", printed)
    assert status == 0, printed
    assert found, printed
    return json.loads(found[1]), int(found[2])


@needs_curl
@pytest.mark.parametrize("way", ["static", "advertise"])
def test_guide_37_the_nginx_file_runs_as_it_stands(
    way: str, machines: Callable[..., Machines], tmp_path: Path
) -> None:
    """With its names and ports: nginx on 80 of its machine, three backends on 8081 of theirs."""
    net = machines("frontend", "nginx", "backend-1", "backend-2", "backend-3")
    env = clean({"DYN_REQUEST_PLANE": "http"}, tmp_path / "kv")
    listed = {"DYN_DISCOVERY_BACKEND": "static", "DYN_STATIC_INSTANCES": f"{ENDPOINT}=http://nginx:80"}
    for name in ("nginx.conf", "dynamo.conf"):
        shutil.copy(EXAMPLES / "nginx" / name, tmp_path)
    arguments = ["-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off;"]
    net.start("nginx", [nginx_program(), *arguments])
    three_workers(net, env | (listed if way == "static" else {"DYN_HTTP_RPC_ADVERTISE_HOST": "nginx:80"}))
    shares, instances = answered(net, env | (listed if way == "static" else {}))
    assert len(shares) == 3
    assert min(shares) > 4  # each of nginx's processes counts for itself
    assert instances == (1 if way == "static" else 3)


@needs_curl
def test_guide_40_the_envoy_file_runs_as_it_stands(machines: Callable[..., Machines], tmp_path: Path) -> None:
    """Envoy on 80, and the worker behind the name `backend`."""
    net = machines("frontend", "envoy", "backend")
    listed = {"DYN_DISCOVERY_BACKEND": "static", "DYN_STATIC_INSTANCES": f"{ENDPOINT}=http://envoy:80"}
    env = clean({"DYN_REQUEST_PLANE": "http", **listed}, tmp_path)
    net.start("backend", words(["reqplane", "serve", "handlers:context", ENDPOINT]), env=env, cwd=HERE)
    wait_for(net, "frontend", "http://backend:8081/v1/dynamo/health")
    arguments = ["-c", str(EXAMPLES / "envoy" / "envoy.yaml"), "--disable-hot-restart", "--concurrency", "1"]
    net.start("envoy", [envoy_program(), *arguments, "-l", "warning"])
    (listener,) = envoy_example()["static_resources"]["listeners"]
    assert socket_address(listener) == {"address": "0.0.0.0", "port_value": 80}
    assert "ready" in wait_for(net, "frontend", "http://envoy:80/v1/dynamo/health")
    assert answered(net, env) == ([30], 1)
