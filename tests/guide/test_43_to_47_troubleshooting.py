"""The guide, 43 to 47: its errors, and what `reqplane doctor` makes of its lists."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator

import pytest
from ports import free_port

from .conftest import Fleet
from .places import HERE, PATIENCE, Place, Running, served

pytestmark = pytest.mark.system


@pytest.fixture(scope="module", autouse=True)
def examined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The doctor, where nobody is at etcd's address: it looks while the other tests run."""
    place = Place(tmp_path_factory.mktemp("doctor"), {"ETCD_ENDPOINTS": f"http://127.0.0.1:{free_port()}"})
    yield place.start("reqplane doctor", DYN_REQUEST_PLANE="http")
    place.close()


def test_guide_43_there_is_no_builder_error(machine: Place, over_http: Fleet):
    """It came of a client that was not made; here a frontend has all that it needs when it is connected."""
    printed = machine.types("reqplane call default.backend.generate '{}'", DYN_REQUEST_PLANE="http")
    assert "builder error" not in printed


@pytest.mark.parametrize("name", ["HttpEndpoint", "PushEndpoint", "PushRouter", "AddressedPushRouter"])
def test_guide_43_the_names_of_the_guide_lead_to_code(here: Place, name: str):
    """docs/implementation.md says what each is here; the one that misses no client is made with it."""
    page = (HERE.parent.parent / "docs" / "implementation.md").read_text()
    found = re.search(rf"^\| `{name}` \| `([\w.]+)\.(\w+)`", page, re.MULTILINE)
    assert found, name
    here.types(f"python -c 'from {found[1]} import {found[2]}'")


def test_guide_44_connection_refused_names_address_instance_and_plane(here: Place):
    """A worker that is registered and does not listen: it was killed a moment ago."""
    path = "refused.backend.generate"
    worker = here.worker(path, DYN_REQUEST_PLANE="http")
    address = worker.says(r"at http://(127\.0\.0\.1:\d+)/")[1]
    worker.kill()
    status, printed = here.run(f"reqplane call {path} '{{}}'", DYN_REQUEST_PLANE="http")
    assert status == 1
    assert "onnection refused" in printed
    for word in (address, "instance 0", "plane http", "see docs/errors.md#CannotConnect"):
        assert word in printed
    status, printed = here.run(f"reqplane doctor {path}", DYN_REQUEST_PLANE="http")
    assert status == 1
    assert re.search(rf"^WRONG  {path}/0: nobody answers at {address}", printed, re.MULTILINE)


def test_guide_44_the_doctor_walks_the_list(machine: Place, over_http: Fleet):
    """Is the backend running, is it in HTTP mode, is the port open, is the host right?"""
    printed = machine.types("reqplane doctor default.backend.generate", DYN_REQUEST_PLANE="http")
    assert "ok     DYN_HTTP_RPC_PORT: port 8081 is in use by a worker of default.backend.generate" in printed
    assert "ok     default.backend.generate/0 on http at 10.77.0.2:8081: accepted after" in printed
    assert re.search(r"^DYN_HTTP_RPC_HOST +0\.0\.0\.0 +default$", printed, re.MULTILINE)


def test_guide_45_no_instances_found_where_there_is_none(here: Place):
    for plane in ("http", "nats"):
        status, printed = here.run("reqplane call --timeout 0.3 no.such.worker '{}'", DYN_REQUEST_PLANE=plane)
        assert status == 1
        assert printed.startswith("reqplane: No instances found for no.such.worker")


@pytest.mark.parametrize(("worker", "frontend"), [("http", "nats"), ("nats", "http")])
def test_guide_45_and_where_all_are_on_another_plane(here: Place, worker: str, frontend: str):
    path = f"on{worker}.backend.generate"
    served(here.worker(path, DYN_REQUEST_PLANE=worker))
    status, printed = here.run(f"reqplane call --timeout 0.3 {path} '{{}}'", DYN_REQUEST_PLANE=frontend)
    assert status == 1
    assert "No instances found" in printed
    assert f"that this process can use, which is on {frontend}: there are 1 on {worker}" in printed
    assert "DYN_REQUEST_PLANE" in printed
    status, printed = here.run(f"reqplane doctor {path}", DYN_REQUEST_PLANE=frontend)
    assert status == 1
    assert f"{path}/0 is on {worker}, this side on {frontend}" in printed
    assert f"    $ export DYN_REQUEST_PLANE={worker}" in printed


def test_guide_45_and_where_etcd_is_not_running(examined: Running):
    """`reqplane doctor` waits some seconds for it."""
    assert examined.process.wait(PATIENCE) == 1
    printed = examined.printed()
    assert re.search(r"^WRONG  etcd at http://127\.0\.0\.1:\d+ .*\n +start it", printed, re.MULTILINE), (
        printed
    )


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_guide_46_a_raw_body_is_no_two_part_message(machine: Place, over_http: Fleet, version: str):
    url = "http://localhost:8081/v1/dynamo/namespace.default.component.backend.endpoint.generate.instance.0"
    printed = machine.types(f"curl -sS {version} -w '\\n%{{http_code}}' -d '{{\"raw\": 1}}' {url}")
    text, _, status = printed.rpartition("\n")
    assert status == "400"
    assert text.startswith("Two Part Codec Error: Invalid message")


def test_guide_47_the_time_out_bounds_the_ack(here: Place):
    """Of a worker that is frozen; and not the answer, which may take longer."""
    path, plane = "frozen.backend.generate", {"DYN_REQUEST_PLANE": "http"}
    worker, frontend = here.worker(path, **plane), here.frontend(**plane, DYN_HTTP_REQUEST_TIMEOUT="0.5")
    (answer,) = frontend.ask(path, {"n": 1, "pause": 1}, workers=1)
    assert answer["error"] is None
    assert len(answer["items"]) == 2
    worker.signal(signal.SIGSTOP)
    begin = time.monotonic()
    (answer,) = frontend.ask(path)
    assert time.monotonic() - begin > 0.45
    assert answer["error"][0] == "DeliveryUnknown"
    assert "0.5 s" in answer["error"][1]
    assert "DYN_HTTP_REQUEST_TIMEOUT" in answer["error"][1]
