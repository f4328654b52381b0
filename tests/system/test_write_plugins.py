"""The plugins that the pages write-a-*.md show work as they stand there."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import socket
import subprocess
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pages import Page, install
from reqplane.errors import PayloadError
from reqplane.model import EndpointId, Instance, Request

ROOT = Path(__file__).parent.parent.parent
EXPORTS = "export DYN_REQUEST_PLANE=http DYN_DISCOVERY_BACKEND=file\n"
PATH = "default.backend.generate"
pytestmark = pytest.mark.system

Installed = Callable[..., tuple[Page, dict[str, str]]]
"""Installs the plugin of a page: (page, its module) gives the page, and variables for a shell that has it."""


@pytest.fixture
def installed(loopback: Mapping[str, str], readme: Page, tmp_path: Path) -> Installed:
    def install_page(name: str, module: str) -> tuple[Page, dict[str, str]]:
        page = Page((ROOT / "docs" / name).read_text())
        source, site = tmp_path / "source", tmp_path / "site"
        source.mkdir()
        page.write(source, module, "pyproject.toml")
        install(source, site)
        readme.write(tmp_path, "worker.py", "frontend.py")
        return page, {**loopback, "PYTHONPATH": str(site), "PYTHONWARNINGS": "error::ResourceWarning"}

    return install_page


def exports(page: Page) -> tuple[str, str]:
    """What is typed to choose the plugin, and the line that shows that it is chosen."""
    _, *lines, last = page.under("Using it", "sh")[0].strip().splitlines()
    return "\n".join(lines) + "\n", last


def module_of(page: str, name: str, folder: Path) -> Any:
    """What the page shows, imported from a file of its own."""
    Page((ROOT / "docs" / page).read_text()).write(folder, name)
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), folder / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_discovery_backend(installed: Installed, readme: Page, processes: Any, tmp_path: Path):
    """The README's worker and frontend find each other by it; a worker that is killed goes with its lease."""
    page, env = installed("write-a-discovery-backend.md", "reqplane_sqlite.py")
    typed, plugins = exports(page)
    typed = "export DYN_REQUEST_PLANE=http\n" + typed.replace("/tmp", str(tmp_path))
    assert "discovery backend sqlite*" in processes.run(typed + plugins, env, tmp_path)[1]
    env |= {"SQLITE_DISCOVERY_TTL": "2"}
    worker = processes.start(f"{typed}python worker.py", env, tmp_path)
    status, printed = processes.run(f"{typed}python frontend.py", env, tmp_path)
    assert (status, printed) == (0, readme.under("A worker and a frontend", "text")[0])

    listing = f"{typed}reqplane instances --json"
    victim = processes.start(f"{typed}python worker.py", env, tmp_path)
    while processes.run(listing, env, tmp_path)[1].count(PATH) < 2:
        assert victim.poll() is None, processes.output(victim)
    victim.send_signal(signal.SIGKILL)
    while processes.run(listing, env, tmp_path)[1].count(PATH) > 1:
        pass
    status, printed = processes.stop(worker)
    assert status == 0, printed
    assert "found by sqlite" in printed
    assert "Traceback" not in printed
    assert PATH not in processes.run(listing, env, tmp_path)[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_discovery_backend_conforms(installed: Installed, tmp_path: Path):
    """As the page says: by its name, and as a class in the plugin's own tests."""
    page, env = installed("write-a-discovery-backend.md", "reqplane_sqlite.py")
    command = page.under("Is it right?", "sh")[0].splitlines()[1]
    done = subprocess.run(command.split(), env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert page.under("Is it right?", "text")[0] in done.stdout
    page.write(tmp_path, "test_sqlite.py")
    command = "pytest test_sqlite.py -k lowest_free"
    done = subprocess.run(command.split(), env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "the discovery backend sqlite of reqplane-sqlite 0.1.0" in done.stdout


def test_a_codec(installed: Installed, readme: Page, processes: Any, tmp_path: Path):
    """Only the worker chooses it; the frontend has it, and a frontend without it says what is missing."""
    page, env = installed("write-a-codec.md", "reqplane_jsonz.py")
    typed, plugins = exports(page)
    assert "codec jsonz*" in processes.run(typed + plugins, env, tmp_path)[1]
    worker = processes.start(f"{EXPORTS}{typed}python worker.py", env, tmp_path)
    status, printed = processes.run(f"{EXPORTS}python frontend.py", env, tmp_path)
    assert (status, printed) == (0, readme.under("A worker and a frontend", "text")[0])
    without = {name: value for name, value in env.items() if name != "PYTHONPATH"}
    call = f"{EXPORTS}reqplane call {PATH} '{{\"n\": 1}}'"
    status, printed = processes.run(call, without, tmp_path)
    assert status == 1
    assert "codec 'jsonz', which is not installed here" in printed
    assert processes.run(call, env, tmp_path) == (0, '{"i": 0}\n')
    assert processes.stop(worker)[0] == 0


@pytest.mark.parametrize("value", [None, 1.5, "é", [], {"a": [{"b": "c" * 5000}] * 400}], ids=type)
def test_the_codec_carries_values(value: object, tmp_path: Path):
    codec = module_of("write-a-codec.md", "reqplane_jsonz.py", tmp_path).JsonzCodec()
    data = codec.encode(value)
    assert isinstance(data, bytes)
    assert len(data) < 100_000
    for form in (data, bytearray(data), memoryview(data)):
        assert codec.decode(form) == value


def test_the_codec_refuses_what_is_not_its_own(tmp_path: Path):
    module = module_of("write-a-codec.md", "reqplane_jsonz.py", tmp_path)
    codec = module.JsonzCodec()
    endless: list[Any] = []
    endless.append(endless)
    for value in (float("nan"), b"bytes", {1, 2}, "\ud800", endless, [[]] * 500_001):
        with pytest.raises(PayloadError):
            codec.encode(value)
    bomb = zlib.compress(bytes(module.MAX_TEXT + 1))
    whole = b"z" + zlib.compress(json.dumps("x" * 5000).encode())
    many = b"z" + zlib.compress(b"[" + b"[]," * 500_000 + b"[]]")
    wrong = [b"", b"j", b"jNaN", b"x1", b"j\xff", b"z123", b"z" + bomb, whole[:-1], whole + b"1", many]
    wrong += [b"j" + b"[" * 100_000, b"j" + b"9" * 10_000]
    for data in wrong:
        with pytest.raises(PayloadError):
            codec.decode(data)


def test_a_router_policy(installed: Installed, processes: Any, tmp_path: Path):
    """What begins alike goes to one worker, whichever process asks, and both workers get something."""
    page, env = installed("write-a-router-policy.md", "reqplane_affinity.py")
    typed, plugins = exports(page)
    assert "router mode affinity*" in processes.run(typed + plugins, env, tmp_path)[1]
    for _ in range(2):
        processes.start(f"{EXPORTS}python worker.py", env, tmp_path)
    listing = f"{EXPORTS}reqplane instances --json"
    while processes.run(listing, env, tmp_path)[1].count(PATH) < 2:
        pass
    answered: dict[str, set[str]] = {}
    for prompt in "abcdefghabab":
        call = f"reqplane call -v {PATH} '{json.dumps({'n': 1, 'prompt': prompt})}'"
        status, printed = processes.run(EXPORTS + typed + call, env, tmp_path)
        assert status == 0, printed
        answered.setdefault(prompt, set()).update(re.findall(r"instance (\d) by", printed))
    assert all(len(workers) == 1 for workers in answered.values())
    assert set.union(*answered.values()) == {"0", "1"}
    wrong = typed.replace("1.5", "much")
    assert "AFFINITY_MOST='much'" in processes.run(wrong + f"reqplane call {PATH} 1", env, tmp_path)[1]


def instances(*numbers: int) -> list[Instance]:
    return [Instance(EndpointId.parse(PATH), number, 100 + number, {}) for number in numbers]


def test_the_policy_bounds_what_one_worker_gets(tmp_path: Path):
    """However alike the requests are; and nothing is kept of workers that are gone."""
    policy = module_of("write-a-router-policy.md", "reqplane_affinity.py", tmp_path).Affinity(1.25)
    assert policy.pick(Request({}), set()) is None
    workers = instances(*range(4))
    policy.changed(workers, [])
    alike = Request({"prompt": "x" * 300})
    began = []
    for _ in range(100):
        began.append(policy.pick(alike, set()))
        policy.started(began[-1])
    loads = sorted(sum(one is worker for one in began) for worker in workers)
    assert sum(loads) == 100
    assert loads[-1] <= 32
    assert policy.pick(alike, {101, 102, 103}) is workers[0]
    assert policy.pick(alike, {100, 101, 102, 103}) is None
    policy.changed([], workers[1:])
    for one in began:
        policy.finished(one, "done")
    assert policy.total == 0
    assert not policy.running
    for payload in ("text", None, {"prompt": 3}, {"prompt": "\ud800"}):
        assert policy.pick(Request(payload), set()) is workers[0]


def test_the_policy_moves_only_what_it_must(tmp_path: Path):
    policy = module_of("write-a-router-policy.md", "reqplane_affinity.py", tmp_path).Affinity(1.25)
    workers = instances(*range(5))
    policy.changed(workers, [])
    requests = [Request({"prompt": str(number)}) for number in range(200)]
    before = [policy.pick(request, set()) for request in requests]
    again = instances(0)[0]
    policy.changed([again], [workers[0], workers[4]])
    for request, was in zip(requests, before, strict=True):
        now = policy.pick(request, set())
        if was is not workers[4]:
            assert now == was
        assert now is not workers[0], "it has a new record"


def test_an_observer(installed: Installed, readme: Page, processes: Any, tmp_path: Path):
    """Both ends send what they see to the daemon; without one, or with a wrong address, calls go on."""
    page, env = installed("write-an-observer.md", "reqplane_statsd.py")
    typed, plugins = exports(page)
    assert "observer statsd*" in processes.run(typed + plugins, env, tmp_path)[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(20)
        env |= {"STATSD_PORT": str(daemon.getsockname()[1])}
        worker = processes.start(f"{EXPORTS}{typed}python worker.py", env, tmp_path)
        call = f"{EXPORTS}{typed}reqplane call {PATH} '{{\"n\": 3}}'"
        while processes.run(call, env, tmp_path)[0] != 0:  # the first ones find nobody
            pass
        assert processes.run(call.replace("3", "null"), env, tmp_path)[0] == 1
        told: list[str] = []
        while not (
            any("HandlerFailed" in line for line in told) and sum("handlers.ms" in line for line in told) > 1
        ):
            told += daemon.recv(2000).decode().splitlines()
    assert all(re.fullmatch(r"reqplane\.[a-zA-Z.]+:\d+\|(c|ms)", line) for line in told)
    assert {f"reqplane.calls.{PATH}.items:3|c", "reqplane.handlers.items:3|c"} <= set(told)
    assert "reqplane.handlers.errors.TypeError:1|c" in told
    status, printed = processes.run(call, env, tmp_path)
    assert (status, printed.count("{")) == (0, 3), printed
    status, printed = processes.run(call, env | {"STATSD_PORT": "x"}, tmp_path)
    assert (status, "STATSD_PORT='x': wanted a port number" in printed) == (2, True)
    status, printed = processes.stop(worker)
    assert status == 0
    assert "the observer" not in printed
