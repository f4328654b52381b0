"""Workers that register nowhere, and a frontend that has their URLs in a list."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import reqplane
from fleet import PATH, Fleet
from memory_planes import eventually
from reqplane import CannotConnect, DeliveryUnknown

pytestmark = pytest.mark.system


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "unused")
    fleet.env |= {"DYN_DISCOVERY_BACKEND": "static", "DYN_STATIC_INSTANCES": f"{PATH}=http://balancer"}
    yield fleet
    fleet.close()


async def address(worker: subprocess.Popen[str]) -> str:
    """`host:port` of a worker, from the lines that it says when it starts."""
    assert worker.stderr is not None
    while line := await asyncio.to_thread(worker.stderr.readline):
        if found := re.search(r"serving .* found by static, at http://([^/]+)/", line):
            return found[1]
    raise AssertionError("the worker did not start")


async def kill(worker: subprocess.Popen[str], client: reqplane.Client) -> None:
    """Return when the frontend has noticed: until then a request may have run, and is not repeated."""
    worker.kill()
    worker.wait()
    for _ in client.instances():
        with suppress(DeliveryUnknown, CannotConnect):
            await pid_of(client.round_robin({}))


async def pid_of(stream: reqplane.Stream) -> int:
    (answer,) = [item async for item in stream]
    return answer["pid"]


@pytest.mark.parametrize(
    "path", ["", "/v1/dynamo/namespace.test.component.worker.endpoint.generate.instance.7"]
)
@pytest.mark.parametrize("scheme", ["http", "h2c"])
async def test_two_workers_answer_in_turn_until_one_is_killed(fleet: Fleet, scheme: str, path: str) -> None:
    workers = [fleet.start("context") for _ in range(2)]
    urls = [f"{scheme}://{await address(worker)}{path}" for worker in workers]
    fleet.env["DYN_STATIC_INSTANCES"] = ",".join(f"{PATH}={url}" for url in urls)
    async with fleet.client(workers=2) as client:
        assert client.instance_ids() == [0, 1]
        answers = Counter([await pid_of(client.round_robin({})) for _ in range(6)])
        assert answers == {worker.pid: 3 for worker in workers}
        named = [await pid_of(client.direct({}, number)) for number in (1, 0, 1)]
        assert named == [workers[number].pid for number in (1, 0, 1)]

        await kill(workers[0], client)
        assert {await pid_of(client.round_robin({})) for _ in range(4)} == {workers[1].pid}

        await kill(workers[1], client)
        with pytest.raises(CannotConnect):
            await pid_of(client.round_robin({}))
    assert not Path(fleet.env["DYN_FILE_KV"]).exists()


NGINX = """
daemon off; master_process off; pid nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    upstream workers {{ {servers} keepalive 8; }}
    server {{
        listen unix:{ready}; listen 127.0.0.1:{port};
        location / {{ proxy_pass http://workers; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
async def test_workers_behind_a_balancer_are_one_instance(fleet: Fleet, tmp_path: Path) -> None:
    workers = [fleet.start("context") for _ in range(2)]
    servers = "".join([f"server {await address(worker)};" for worker in workers])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config, ready = tmp_path / "nginx.conf", tmp_path / "ready"
    config.write_text(NGINX.format(servers=servers, port=port, ready=ready))
    fleet.started(["nginx", "-c", str(config), "-p", str(tmp_path)])
    await eventually(ready.exists, within=20)
    fleet.env["DYN_STATIC_INSTANCES"] = f"{PATH}=http://127.0.0.1:{port}"
    async with fleet.client(workers=1) as client:
        assert client.instance_ids() == [0]
        assert {await pid_of(client.generate({})) for _ in range(6)} == {worker.pid for worker in workers}
        workers[0].terminate()
        await asyncio.to_thread(workers[0].wait)
        assert {await pid_of(client.generate({})) for _ in range(4)} == {workers[1].pid}
