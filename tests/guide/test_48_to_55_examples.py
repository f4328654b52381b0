"""The guide, 48 to 55: its examples, its checklist, and what speaks for each plane."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Nats

from .conftest import Fleet
from .places import HERE, Place, served
from .wiretap import Requester

pytestmark = pytest.mark.system

ROOT = HERE.parent.parent
PLANES = pytest.mark.parametrize("plane", ["http", "nats"])
EXAMPLE = "default.backend.generate"

# ── examples ────────────────────────────────────────────────────────────────────────────────────────


@PLANES
def test_guide_48_49_the_demo_in_two_terminals(here: Place, plane: str):
    """The server prints which endpoint it serves, and where."""
    server = here.start("reqplane demo server", DYN_REQUEST_PLANE=plane)
    where = {"http": r"http://127\.0\.0\.1:\d+/v1/dynamo/namespace\.default\.\S+", "nats": r"\S+"}[plane]
    server.says(rf"serving default\.demo\.generate as instance \d+ on {plane}, found by etcd, at {where}\n")
    printed = here.types("reqplane demo client", DYN_REQUEST_PLANE=plane)
    assert printed.startswith("The keeper")
    assert re.search(rf"\n\(60 tokens from worker \d+ by {plane}\)\n$", printed)
    assert server.end() == 0


def test_guide_48_the_whole_demo_on_nats_with_etcd(here: Place):
    status, printed = here.run("reqplane demo", DYN_REQUEST_PLANE="nats", DYN_DISCOVERY_BACKEND="etcd")
    assert status == 0, printed
    assert re.search(r", 0 wrong \(.*\) on nats with etcd discovery in \S+ s: all is well$", printed.rstrip())


@PLANES
def test_guide_50_a_frontend_and_a_backend_are_two_processes(here: Place, plane: str):
    path = f"two{plane}.backend.generate"
    worker = here.start(f"python work.py {path}", DYN_REQUEST_PLANE=plane)
    frontend = here.frontend(DYN_REQUEST_PLANE=plane)
    (answer,) = frontend.ask(path, {"n": 3}, workers=1)
    assert answer["items"][1:] == [0, 1, 2]
    assert answer["items"][0]["pid"] == worker.pid != frontend.pid


# ── the production checklist, line by line ──────────────────────────────────────────────────────────


def test_guide_51_all_workers_are_on_http(each: Fleet):
    """`reqplane instances` shows who is on which plane; 1 to 4 are about the variable."""
    printed = each.place.types(f"reqplane instances {each.path}", DYN_REQUEST_PLANE="http")
    assert len(re.findall(rf"^{each.path} +[01] +{each.plane} ", printed, re.MULTILINE)) == 2


def test_guide_51_a_port_conflict_names_the_variable(machine: Place, over_http: Fleet):
    status, printed = machine.run("reqplane serve work:generate a.b.c", DYN_REQUEST_PLANE="http")
    assert status == 2
    held = over_http.workers[0].pid
    assert f"DYN_HTTP_RPC_PORT='8081': the address 0.0.0.0:8081 is taken by process {held} " in printed


def test_guide_51_a_closed_port_is_found_by_the_doctor(machine: Place, wanted: Callable[..., None]):
    """And it tells which one to open."""
    wanted("iptables")
    path, env = "walled.b.generate", {"DYN_REQUEST_PLANE": "http", "DYN_HTTP_RPC_PORT": "18083"}
    worker = machine.worker(path, **env)
    served(worker)
    rule = "INPUT -p tcp --dport 18083 -j REJECT --reject-with tcp-reset"
    status, _ = machine.run(f"iptables -A {rule}")
    if status != 0:
        pytest.skip("iptables does not work here")
    status, printed = machine.run(f"reqplane doctor {path}", **env)
    machine.types(f"iptables -D {rule}")
    assert status == 1
    assert re.search(rf"^WRONG  {path}/0: nobody answers at 10\.77\.0\.2:18083", printed, re.MULTILINE), (
        printed
    )
    worker.kill()


CHECKLIST = {
    "Configure health checks on HTTP endpoint": {28: "curl"},
    "Set up HTTP load balancer": {37: "nginx", 40: "envoy"},
    "Set up monitoring/metrics for HTTP requests": {35: "http_requests"},
    "Test failover and scaling": {27: "fail|kill|another"},
    "Configure distributed tracing": {21: "trace", 38: "trace"},
    "Set appropriate DYN_HTTP_REQUEST_TIMEOUT": {
        11: "DYN_HTTP_REQUEST_TIMEOUT",
        47: "DYN_HTTP_REQUEST_TIMEOUT",
    },
}


def body_of(number: int) -> str:
    """The tests of this number, with the values that they run through."""
    texts = [path.read_text() for path in HERE.glob("test_*.py")]
    test = rf"^(?:@.*\n)*(?:async )?def test_guide_(?:\d+_)*{number}_[^\n]*\n(?:[ )\n][^\n]*\n?|\n)*"
    return "".join(found[0] for text in texts for found in re.finditer(test, text, re.MULTILINE))


@pytest.mark.parametrize("line", CHECKLIST)
def test_guide_51_what_else_the_checklist_says_has_tests(line: str):
    """And each is about what the line says."""
    for number, word in CHECKLIST[line].items():
        assert re.search(word, body_of(number), re.IGNORECASE), (number, word)


def test_guide_51_the_endpoints_can_be_listed_for_the_team(machine: Place, over_http: Fleet):
    listed = json.loads(machine.types("reqplane instances --json", DYN_REQUEST_PLANE="http"))
    found = [one for one in listed if one["path"] == over_http.path]
    assert [one["address"] for one in found] == ["http://10.77.0.2:8081"]


def test_guide_51_tls_toward_nats_and_etcd_and_none_yet_between_workers(here: Place):
    """TLS on the planes themselves is to come; the README says so."""
    listed = here.run("reqplane doctor", DYN_REQUEST_PLANE="nats")[1]
    for variable in ("NATS_TLS_CA_CERT_PATH", "ETCD_AUTH_CA", "ETCD_AUTH_CLIENT_CERT"):
        assert re.search(rf"^{variable} ", listed, re.MULTILINE), listed
    assert re.search(r"no TLS", (ROOT / "README.md").read_text())


# ── tools ───────────────────────────────────────────────────────────────────────────────────────────


def test_guide_52_standard_http_tools_can_look_at_it(machine: Place, over_http: Fleet):
    """Whatever curl asks for, the answer says what there is."""
    root = "http://localhost:8081/v1/dynamo"
    asked = machine.types(f"curl -sSi --http1.1 {root}/namespace.default.component.backend.endpoint.generate")
    assert asked.startswith("HTTP/1.1 405")
    assert re.search(r"^allow: POST$", asked, re.MULTILINE | re.IGNORECASE)
    other = machine.types(f"curl -sSi --http1.1 -d x {root}/namespace.a.component.b.endpoint.c")
    assert other.startswith("HTTP/1.1 404")
    assert "this worker serves default.backend.generate" in other
    shown = machine.types(f"curl -sSv --http2-prior-knowledge {root}/health")
    assert "HTTP/2 200" in shown
    assert '"default.backend.generate": "ready"' in shown


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[str], Nats]]:
    """Starts a NATS server of one's own with this configuration."""
    servers: list[Nats] = []

    def start(config: str) -> Nats:
        servers.append(Nats(tmp_path / f"nats-{len(servers)}", config=config).start())
        return servers[-1]

    yield start
    for one in servers:
        one.close()


def call_over(here: Place, path: str, **env: str) -> str:
    worker = here.worker(path, DYN_REQUEST_PLANE="nats", **env)
    served(worker)
    printed = here.types(f"reqplane call {path} '{{}}'", DYN_REQUEST_PLANE="nats", **env)
    assert f'"pid": {worker.pid}' in printed
    return printed


def test_guide_53_nats_with_users_and_passwords(here: Place, server: Callable[[str], Nats]):
    url = server('authorization { user: ann, password: "s3cret" }').url
    right = {"NATS_SERVER": url, "NATS_AUTH_USERNAME": "ann", "NATS_AUTH_PASSWORD": "s3cret"}
    call_over(here, "user.backend.generate", **right)
    wrong = {**right, "NATS_AUTH_PASSWORD": "wr0ng", "DYN_REQUEST_PLANE": "nats"}
    status, printed = here.run("reqplane call user.backend.generate '{}'", **wrong)
    assert status != 0
    assert "NATS_AUTH_" in printed
    assert "wr0ng" not in printed


def test_guide_53_nats_with_tls(here: Place, server: Callable[[str], Nats], wanted: Callable[..., None]):
    wanted("openssl")
    cert, key = here.folder / "cert.pem", here.folder / "key.pem"
    new = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=nats -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*new.split(), "-keyout", key, "-out", cert], capture_output=True, check=True)
    there = server(f'tls {{ cert_file: "{cert}", key_file: "{key}" }}')
    env = {"NATS_SERVER": there.url.replace("nats:", "tls:"), "NATS_TLS_CA_CERT_PATH": str(cert)}
    call_over(here, "tls.backend.generate", **env)


def test_guide_53_a_cluster_of_which_one_member_is_gone(here: Place, server: Callable[[str], Nats]):
    gone, there = server(""), server("")
    gone.kill()
    call_over(here, "cluster.backend.generate", NATS_SERVER=f"{gone.url},{there.url}")


def test_guide_53_srv_discovery_tells_of_the_workers(fleets: dict[str, Fleet], nats: Nats):
    fleets["nats"].ask(count=4, workers=2)
    requester = Requester(nats.url)
    name = "nats_backend"
    assert len(requester.ask(f"$SRV.PING.{name}", answers=2)) == 2
    (info, _) = requester.ask(f"$SRV.INFO.{name}", answers=2)
    assert [one["queue_group"] for one in info["endpoints"]] == ["q"]
    stats = requester.ask(f"$SRV.STATS.{name}", answers=2)
    assert sum(one["endpoints"][0]["num_requests"] for one in stats) >= 4
    requester.close()


# ── documents, and both planes at once ──────────────────────────────────────────────────────────────


PAGES = {
    "implementation": "reqplane-http reqplane-nats reqplane-tcp-stream PushRouter AddressedPushRouter",
    "usage": "DYN_REQUEST_PLANE DYN_DISCOVERY_BACKEND NATS_SERVER ETCD_ENDPOINTS 8081 9000 2379 PushRouter",
    "protocol": "u64 connection_info 202 x-reqplane-refusal $SRV.PING complete_final v1/instances/",
    "summary": "DYN_REQUEST_PLANE 8081 4222 9000 http,nats usage.md protocol.md implementation.md",
}
"""What somebody who was sent to the page is looking for."""


@pytest.mark.parametrize("page", PAGES)
def test_guide_54_the_documents_that_the_guide_names_say_what_they_should(page: str):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    assert text.startswith(f"# {page.capitalize()}\n")
    assert [word for word in PAGES[page].split() if word.lower() not in text.lower()] == []
    assert f"docs/{page}.md" in (ROOT / "README.md").read_text()


def test_guide_54_the_code_in_usage_compiles_and_its_commands_exist(here: Place):
    text = (ROOT / "docs" / "usage.md").read_text()
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(code, "usage.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    commands = set(re.findall(r"(?:^|`)reqplane ([a-z]+)", text, re.MULTILINE))
    listed = here.types("reqplane --help")
    assert commands >= {"serve", "frontend", "instances", "doctor"}
    assert [one for one in commands if not re.search(rf"^    {one}\b", listed, re.MULTILINE)] == []


def test_guide_55_some_workers_on_nats_and_some_on_http(here: Place):
    """A frontend with both plugins reaches each on the plane that its record names."""
    path = "mixed.backend.generate"
    workers = {plane: here.worker(path, DYN_REQUEST_PLANE=plane) for plane in ("nats", "http")}
    frontend = here.frontend(DYN_REQUEST_PLANE="http,nats")
    answers = frontend.ask(path, count=8, workers=2)
    assert not any(answer["error"] for answer in answers)
    found = Counter((answer["plane"], answer["items"][0]["pid"]) for answer in answers)
    assert found == {(plane, worker.pid): 4 for plane, worker in workers.items()}


def test_guide_55_a_worker_on_both_planes_under_one_registration(here: Place, fleets: dict[str, Fleet]):
    path = "both.backend.generate"
    worker = here.worker(path, DYN_REQUEST_PLANE="http,nats")
    for plane, fleet in fleets.items():
        (answer,) = fleet.frontend.ask(path, workers=1)
        assert answer["error"] is None
        assert (answer["plane"], answer["instance"]) == (plane, 0)
        assert answer["items"][0]["pid"] == worker.pid
