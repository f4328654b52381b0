"""Things are broken, for real; `reqplane doctor` names each, and what it says to type cures it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pages import Page, install
from ports import free_port
from reqplane.skeleton import write_project
from servers import Etcd, Nats

ROOT = Path(__file__).parent.parent.parent
PATH = "default.backend.generate"
PLANES = {"DYN_REQUEST_PLANE": "http", "DYN_DISCOVERY_BACKEND": "file"}
WORKER = """
async def generate(request):
    print("the handler ran", flush=True)
    yield request
"""
END = "--- end of output, status"

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Visit:
    """What one run of the doctor printed."""

    status: int
    printed: str

    @property
    def wrong(self) -> list[str]:
        return [line for line in self.printed.splitlines() if line.startswith("WRONG")]

    @property
    def commands(self) -> list[str]:
        """The lines to type, as printed."""
        return re.findall(r"^    \$ (.+)$", self.printed, re.MULTILINE)

    def check_healthy(self) -> None:
        assert self.status == 0, self.printed
        assert not self.wrong
        assert self.printed.endswith("\nNothing is wrong.\n")

    def check_ill(self, *words: str) -> None:
        """Exactly one thing is wrong, and it is named."""
        assert self.status == 1, self.printed
        assert len(self.wrong) == 1, self.printed
        assert all(word in self.wrong[0] for word in words), self.printed
        assert self.printed.endswith("\n1 thing is wrong.\n")
        assert "Traceback" not in self.printed


class Terminal:
    """A shell that a user types into: what is exported or cured stays so."""

    def __init__(self, env: Mapping[str, str], cwd: Path, *shell: str) -> None:
        self._shell = subprocess.Popen(
            shell or ("sh",),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def type(self, line: str) -> tuple[int, str]:
        """One line; its exit status and what it printed."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f'{line}\necho "{END} $?"\n')
        self._shell.stdin.flush()
        printed: list[str] = []
        for text in self._shell.stdout:
            if text.startswith(END):
                return int(text.removeprefix(END)), "".join(printed)
            printed.append(text)
        pytest.fail(f"the shell ended: {''.join(printed)}")

    def visit(self, arguments: str = "") -> Visit:
        return Visit(*self.type(f"reqplane doctor {arguments}"))

    def obey(self, visit: Visit) -> None:
        """Type what the doctor said, exactly as printed."""
        assert visit.commands, visit.printed
        for command in visit.commands:
            status, printed = self.type(command)
            assert status == 0, f"{command}\n{printed}"

    def close(self) -> None:
        self._shell.kill()
        self._shell.communicate()


@pytest.fixture
def env(loopback: dict[str, str], tmp_path: Path) -> dict[str, str]:
    (tmp_path / "work.py").write_text(WORKER)
    return loopback | PLANES | {"DYN_FILE_KV": str(tmp_path / "kv"), "DYN_FILE_TTL": "600"}


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(env: Mapping[str, str], *shell: str) -> Terminal:
        opened.append(Terminal(env, tmp_path, *shell))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def start(processes: Any, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a worker, after the lines that are typed before; returns when it is served."""

    def start(env: Mapping[str, str], *typed: str, prefix: str = "") -> subprocess.Popen[str]:
        script = "\n".join([*typed, f"{prefix}reqplane serve work:generate {PATH}"])
        worker = processes.start(script, env, tmp_path)
        while "serving" not in processes.output(worker):
            assert worker.poll() is None, processes.output(worker)
            time.sleep(0.02)
        return worker

    return start


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# ── nothing is wrong ────────────────────────────────────────────────────────────────────────────────


def test_a_worker_is_probed_and_its_handler_does_not_run(
    terminal: Any, start: Any, processes: Any, env: dict[str, str]
):
    worker = start(env)
    visit = terminal(env).visit(PATH)
    visit.check_healthy()
    assert re.search(
        rf"^ok     {re.escape(PATH)}/0 on http at 127\.0\.0\.1:\d+: accepted after \d+\.\d ms, "
        r"called home after \d+\.\d ms, answered after \d+\.\d ms$",
        visit.printed,
        re.MULTILINE,
    ), visit.printed
    status, printed = processes.stop(worker)
    assert status == 0
    assert "the handler ran" not in printed


def test_without_a_path_all_workers_are_probed(terminal: Any, start: Any, env: dict[str, str]):
    start(env)
    start(env | {"DYN_REQUEST_PLANE_CODEC": "json"})
    visit = terminal(env).visit()
    visit.check_healthy()
    assert visit.printed.count("answered after") == 2


def test_for_programs(terminal: Any, start: Any, env: dict[str, str]):
    start(env)
    status, printed = terminal(env | {"DYN_ROUTERMODE": "random"}).type(f"reqplane doctor --json {PATH}")
    told = json.loads(printed)
    assert (status, told["wrong"]) == (1, 1)
    assert {"name": "DYN_REQUEST_PLANE", "value": "http", "origin": "environment"} in told["settings"]
    assert {"name": "DYN_LOG", "value": "info", "origin": "default"} in told["settings"]
    (ill,) = [check for check in told["checks"] if check["verdict"] == "WRONG"]
    assert ill["advice"][0]["commands"] == ['export DYN_ROUTER_MODE="$DYN_ROUTERMODE"; unset DYN_ROUTERMODE']


# ── settings ────────────────────────────────────────────────────────────────────────────────────────


def test_values_that_cannot_be_read(terminal: Any, env: dict[str, str]):
    shell = terminal(env | {"DYN_LOG": "loud", "DYN_HTTP_REQUEST_TIMEOUT": "soon"})
    visit = shell.visit()
    assert visit.status == 1
    assert [line.split(":")[0] for line in visit.wrong] == [
        "WRONG  DYN_LOG=loud",
        "WRONG  DYN_HTTP_REQUEST_TIMEOUT=soon",
    ]
    shell.obey(visit)
    shell.visit().check_healthy()


def test_a_misspelt_variable(terminal: Any, env: dict[str, str]):
    shell = terminal({**env, "DYN_REQUESTPLANE": "http"})
    visit = shell.visit()
    visit.check_ill("DYN_REQUESTPLANE=http is not a setting; did you mean DYN_REQUEST_PLANE?")
    shell.obey(visit)
    shell.visit().check_healthy()


def test_no_secret_is_shown(terminal: Any, env: dict[str, str]):
    secrets = {
        "DYN_MY_PASSWORD": "hunter2",
        "NATS_AUTH_TOKENS": "hunter2",
        "DYN_MY_URL": "http://me:hunter2@host/",
        "DYN_MODEL_SECRET_X": "hunter2",
        "DYN_STRANGE": "\x1b[2J",
        "DYN_HTTP_RPC_ROOT_PATH": "nats://me:hunter2@host",
    }
    for arguments in ("", "--json"):
        _, printed = terminal(env | secrets).type(f"reqplane doctor {arguments}")
        assert "hunter2" not in printed
        assert "DYN_MY_PASSWORD=***" in printed
        assert "DYN_MY_URL=http://***@host/" in printed
        assert "\x1b" not in printed


def test_a_worker_whose_address_only_others_know(terminal: Any, start: Any, env: dict[str, str]):
    """As in a container: the port is taken by it, and that is in order."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env |= {"DYN_HTTP_RPC_PORT": str(port), "DYN_HTTP_RPC_ADVERTISE_HOST": "198.51.100.7"}
    start(env)
    visit = terminal(env | {"DYN_CALL_HOME_TIMEOUT": "0.5"}).visit("other.backend.generate")
    assert f"ok     DYN_HTTP_RPC_PORT: port {port} is in use by a worker of {PATH}\n" in visit.printed


# ── eight things are broken ─────────────────────────────────────────────────────────────────────────


def test_1_the_plane_is_missing(terminal: Any, env: dict[str, str]):
    shell = terminal(env | {"DYN_REQUEST_PLANE": "htp"})
    visit = shell.visit()
    visit.check_ill("the request plane 'htp' is not installed", "http")
    shell.obey(visit)
    shell.visit().check_healthy()


def test_1_nothing_is_chosen(terminal: Any, env: dict[str, str]):
    """The defaults are nats and etcd, and neither runs."""
    nowhere = f"127.0.0.1:{free_port()}"
    servers = {"NATS_SERVER": f"nats://{nowhere}", "ETCD_ENDPOINTS": f"http://{nowhere}"}
    shell = terminal({name: value for name, value in env.items() if name not in PLANES} | servers)
    visit = shell.visit()
    assert (visit.status, len(visit.wrong)) == (1, 2)
    assert f"etcd at http://{nowhere} can't be used" in visit.wrong[0]
    assert "no NATS server can be reached" in visit.wrong[1]
    shell.obey(visit)
    shell.visit().check_healthy()


def test_2_the_port_of_the_request_plane_is_taken(terminal: Any, env: dict[str, str], busy: int):
    shell = terminal(env | {"DYN_HTTP_RPC_PORT": str(busy)})
    visit = shell.visit()
    visit.check_ill(f"DYN_HTTP_RPC_PORT={busy}", f"taken by process {os.getpid()} (")
    shell.obey(visit)
    shell.visit().check_healthy()


def test_2_the_response_port_is_taken(terminal: Any, env: dict[str, str], busy: int):
    shell = terminal(env | {"DYN_TCP_RESPONSE_STREAM_PORT": str(busy)})
    visit = shell.visit()
    visit.check_ill(f"DYN_TCP_RESPONSE_STREAM_PORT={busy}", f"taken by process {os.getpid()} (")
    shell.obey(visit)
    shell.visit().check_healthy()


def test_2_a_registered_worker_is_not_in_the_way(terminal: Any, start: Any, env: dict[str, str], busy: int):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    env["DYN_HTTP_RPC_PORT"] = port
    start(env)
    visit = terminal(env).visit()
    visit.check_healthy()
    assert f"port {port} is in use by a worker of {PATH}" in visit.printed


def test_3_the_workers_are_on_another_plane(terminal: Any, start: Any, env: dict[str, str], tmp_path: Path):
    project, site = write_project("sock", tmp_path), tmp_path / "site"
    page = Page((ROOT / "docs" / "write-a-transport.md").read_text())
    (project / "src/reqplane_sock/wire.py").write_text(page.under("What it promises", "python")[1])
    install(project, site)
    env |= {"PYTHONPATH": str(site), "DYN_SOCK_HOST": "127.0.0.1"}
    start(env | {"DYN_REQUEST_PLANE": "sock"})
    shell = terminal(env)
    visit = shell.visit(PATH)
    visit.check_ill(f"{PATH}/0 is on sock, this side on http")
    shell.obey(visit)
    visit = shell.visit(PATH)
    visit.check_healthy()
    assert re.search(rf"{PATH}/0 on sock at \S+: accepted after", visit.printed)


def test_4_a_worker_is_gone(terminal: Any, start: Any, env: dict[str, str], tmp_path: Path):
    """Its record is still there, as another machine's would be until its time is over."""
    dead = start(env)
    start(env)
    dead.kill()
    dead.wait()
    (lock,) = (tmp_path / "kv" / "v1" / "locks").glob("*.instance.0")
    lock.write_text("another machine")
    shell = terminal(env)
    visit = shell.visit(PATH)
    visit.check_ill(f"{PATH}/0: nobody answers at 127.0.0.1:")
    shell.obey(visit)
    visit = shell.visit(PATH)
    visit.check_healthy()
    assert f"{PATH}/1 on http" in visit.printed


def test_4_a_worker_is_stopped(terminal: Any, start: Any, env: dict[str, str]):
    worker = start(env)
    worker.send_signal(signal.SIGSTOP)
    try:
        shell = terminal(env | {"DYN_CALL_HOME_TIMEOUT": "1"})
        visit = shell.visit(PATH)
        visit.check_ill("nobody answers", f"process {worker.pid} is stopped")
        shell.obey(visit)
        shell.visit(PATH).check_healthy()
    finally:
        worker.send_signal(signal.SIGCONT)


def test_4_there_is_no_worker(terminal: Any, start: Any, env: dict[str, str]):
    start(env)
    visit = terminal(env).visit("default.backend.generat")
    visit.check_ill("no worker of default.backend.generat", f"did you mean {PATH}?")


def test_5_a_worker_tells_a_wrong_host(terminal: Any, start: Any, processes: Any, env: dict[str, str]):
    worker = start(env | {"DYN_HTTP_RPC_ADVERTISE_HOST": "127.0.0.9"})
    shell = terminal(env)
    visit = shell.visit(PATH)
    visit.check_ill(f"{PATH}/0: nobody answers at 127.0.0.9:", "it does answer at 127.0.0.1")
    processes.stop(worker)
    start(env | {"DYN_HTTP_RPC_ADVERTISE_HOST": "127.0.0.9"}, *visit.commands)  # in the worker's shell
    shell.visit(PATH).check_healthy()


def test_5_a_worker_may_not_call_home(terminal: Any, start: Any, processes: Any, env: dict[str, str]):
    worker = start(env | {"DYN_RESPONSE_ALLOW": "10.0.0.0/8"})
    shell = terminal(env | {"DYN_CALL_HOME_TIMEOUT": "1"})
    visit = shell.visit(PATH)
    visit.check_ill(f"{PATH}/0 may not connect to 127.0.0.1:", "DYN_RESPONSE_ALLOW")
    processes.stop(worker)
    start(env | {"DYN_RESPONSE_ALLOW": "10.0.0.0/8"}, *visit.commands)  # in the worker's shell
    shell.visit(PATH).check_healthy()


@pytest.mark.parametrize("place", ["DYN_TCP_RESPONSE_STREAM", "DYN_HTTP_RPC"])
def test_5_this_side_tells_a_wrong_host(terminal: Any, env: dict[str, str], place: str):
    shell = terminal(env | {f"{place}_ADVERTISE_HOST": "127.0.0.9"})
    visit = shell.visit()
    visit.check_ill("would tell others 127.0.0.9:", "from here: Connection refused")
    shell.obey(visit)
    shell.visit().check_healthy()


def test_records_that_break_the_rules_are_told(terminal: Any, env: dict[str, str], tmp_path: Path):
    records = tmp_path / "kv" / "v1" / "instances"
    records.mkdir(parents=True)
    (records / "namespace.a.component.b.endpoint.c.instance.0").write_text("junk")
    printed = terminal(env).visit().printed
    assert re.search(r"^note   discovery: the file .*instance\.0' is skipped: .*JSON", printed, re.MULTILINE)


def test_6_the_discovery_folder_is_a_file(terminal: Any, start: Any, env: dict[str, str], tmp_path: Path):
    (tmp_path / "kv").write_text("")
    shell = terminal(env)
    visit = shell.visit()
    visit.check_ill(f"the discovery folder {tmp_path / 'kv'} can't be used")
    shell.obey(visit)
    shell.visit().check_healthy()


@pytest.mark.parametrize("part", ["kv", "kv/v1/instances"])
def test_6_the_discovery_folder_is_closed(
    terminal: Any, start: Any, processes: Any, env: dict[str, str], tmp_path: Path, part: str
):
    user = _without_privilege()
    processes.stop(start(env, prefix=" ".join([*user, ""])))  # it made the folder
    (tmp_path / part).chmod(0o500)
    shell = terminal(env, *user, "sh")
    visit = shell.visit()
    visit.check_ill(str(tmp_path / "kv"))
    assert visit.commands == [f"chmod -R u+rwX {tmp_path / 'kv'}"]
    shell.obey(visit)
    shell.visit().check_healthy()


def _without_privilege() -> list[str]:
    """A prefix for commands that takes from root what lets it write everywhere."""
    if os.geteuid() != 0:
        return []
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"], check=False).returncode != 0:
        pytest.skip("root may write everywhere, and setpriv can't take that away here")
    return prefix


# ── a firewall ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Machines:
    """Two network namespaces with a cable between: as two machines, but for the file system."""

    frontend: tuple[str, ...]
    worker: tuple[str, ...]


@pytest.fixture
def machines() -> Iterator[Machines]:
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("iptables"):
        pytest.skip("network namespaces and a firewall need root, ip and iptables")
    names = f"rqf{os.getpid()}", f"rqw{os.getpid()}"
    commands = [f"ip netns add {name}" for name in names]
    commands.append(f"ip -n {names[0]} link add cable type veth peer name cable netns {names[1]}")
    for number, name in enumerate(names, 1):
        commands += [
            f"ip -n {name} addr add 10.99.0.{number}/24 dev cable",
            f"ip -n {name} link set cable up",
            f"ip -n {name} link set lo up",
        ]
    try:
        for command in commands:
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"{command}: {done.stderr}")
        yield Machines(*(("ip", "netns", "exec", name) for name in names))
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed port", "any port"])
def test_7_a_firewall_closes_the_response_port(
    terminal: Any, start: Any, env: dict[str, str], machines: Machines, fixed: bool
):
    for variable in ("DYN_HTTP_RPC_HOST", "DYN_TCP_RESPONSE_STREAM_HOST", "DYN_TCP_RESPONSE_STREAM_PORT"):
        del env[variable]
    env["DYN_CALL_HOME_TIMEOUT"] = "1"
    start(
        env | {"DYN_HTTP_RPC_HOST": "10.99.0.2", "DYN_TCP_RESPONSE_STREAM_HOST": "10.99.0.2"},
        prefix=" ".join([*machines.worker, ""]),
    )
    env["DYN_TCP_RESPONSE_STREAM_HOST"] = "10.99.0.1"
    if fixed:
        env["DYN_TCP_RESPONSE_STREAM_PORT"] = "9050"
    shell = terminal(env, *machines.frontend, "sh")
    assert shell.type("iptables -A INPUT -i cable -p tcp --dport 9000:9099 -j DROP") == (0, "")
    visit = shell.visit(PATH)
    port = 9050 if fixed else 9000
    visit.check_ill(f"{PATH}/0 accepted the request, but could not connect to 10.99.0.1:{port}")
    assert visit.commands[-1] == f"iptables -I INPUT -p tcp --dport {port} -j ACCEPT"
    shell.obey(visit)
    shell.visit(PATH).check_healthy()


def test_7_a_firewall_closes_it_to_this_machine_itself(
    terminal: Any, env: dict[str, str], machines: Machines
):
    env["DYN_TCP_RESPONSE_STREAM_PORT"] = "9050"
    shell = terminal(env, *machines.frontend, "sh")
    assert shell.type("iptables -A INPUT -p tcp --dport 9050 -j DROP") == (0, "")
    visit = shell.visit()
    visit.check_ill("a frontend here would tell others 127.0.0.1:9050", "no connection within 2 s")
    shell.obey(visit)
    shell.visit().check_healthy()


# ── with an environment of its own: pip ─────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheels as they are (`now`), and the http plane's as it was in another version (`before`)."""
    folder = tmp_path_factory.mktemp("wheels")
    source = tmp_path_factory.mktemp("source") / "http"
    shutil.copytree(ROOT / "plugins" / "http", source, ignore=shutil.ignore_patterns("__pycache__"))
    project = source / "pyproject.toml"
    project.write_text(project.read_text().replace('version = "0.1.0"', 'version = "0.0.7"'))
    (folder / "now").mkdir()  # or they would fight for it
    builds = [_build(ROOT / part, folder / "now") for part in ("core", "plugins/tcp_stream", "plugins/http")]
    for build in [*builds, _build(source, folder / "before")]:
        _, complaint = build.communicate()
        assert build.returncode == 0, complaint
    return folder


def _build(source: Path, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    return subprocess.Popen(command, cwd=source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@dataclass(frozen=True)
class Environment:
    """A Python environment like this one, without the conformance suite, whose pip finds only our wheels."""

    site: Path
    variables: dict[str, str]


@pytest.fixture
def elsewhere(env: dict[str, str], wheels: Path, tmp_path: Path) -> Environment:
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    ours = Path(next(path for path in sys.path if (Path(path) / "pip").is_dir()))
    (site,) = folder.glob("lib/python*/site-packages")
    for entry in ours.iterdir():
        if "reqplane_conformance" in entry.name:
            continue
        (site / entry.name).symlink_to(entry)
    (folder / "bin" / "reqplane").write_text(
        f"#!{folder}/bin/python\nimport sys\nfrom reqplane.cli import main\nsys.exit(main())\n"
    )
    (folder / "bin" / "reqplane").chmod(0o755)
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels / "now"), "PIP_NO_CACHE_DIR": "1"}
    pip |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    path = f"{folder / 'bin'}:/usr/sbin:/usr/bin:/bin"
    return Environment(site, env | pip | {"PATH": path})


@pytest.fixture
def without_http(elsewhere: Environment) -> Environment:
    for entry in elsewhere.site.glob("*reqplane_http*"):
        entry.unlink()
    return elsewhere


def test_1_the_plane_is_missing_and_can_be_installed(terminal: Any, without_http: Environment):
    shell = terminal(without_http.variables)
    visit = shell.visit()
    visit.check_ill("the request plane 'http' is not installed (there are: nats, tcp)")
    assert visit.commands == ["python -m pip install reqplane-http==0.1.0"]
    assert "PIP_FIND_LINKS has to name the folder of our wheels" in visit.printed
    shell.obey(visit)
    shell.visit().check_healthy()


def test_8_the_installed_versions_differ(terminal: Any, without_http: Environment, wheels: Path):
    shell = terminal(without_http.variables)
    old = f"python -m pip install -q --no-deps --find-links {wheels / 'before'} reqplane-http==0.0.7"
    assert shell.type(old)[0] == 0
    visit = shell.visit()
    visit.check_ill("the installed versions differ", "reqplane-http 0.0.7", "reqplane 0.1.0")
    shell.obey(visit)
    shell.visit().check_healthy()


def test_8_a_worker_is_of_another_version(
    terminal: Any, start: Any, processes: Any, env: dict[str, str], elsewhere: Environment
):
    _make_old(elsewhere.site)
    worker = start(elsewhere.variables)
    shell = terminal(env)
    visit = shell.visit(PATH)
    visit.check_healthy()
    assert f"note   {PATH}/0 is of version 0.0.7, this side of 0.1.0, as in a rolling update" in visit.printed
    processes.stop(worker)
    terminal(elsewhere.variables).obey(visit)  # in the worker's shell
    start(elsewhere.variables)
    shell.visit(PATH).check_healthy()


def _make_old(site: Path) -> None:
    """Let the core there be one of another version."""
    (facts,) = site.glob("reqplane-*.dist-info")
    files = {file.name: file.read_bytes() for file in facts.iterdir() if file.is_file()}
    facts.unlink()
    facts = facts.with_name("reqplane-0.0.7.dist-info")  # pip goes by its name in newer versions
    facts.mkdir()
    files["METADATA"] = files["METADATA"].replace(b"\nVersion: 0.1.0", b"\nVersion: 0.0.7")
    files["RECORD"] = files["RECORD"].replace(b"reqplane-0.1.0", b"reqplane-0.0.7")
    for name, content in files.items():
        (facts / name).write_bytes(content)


# ── the guide's list, on nats and etcd ──────────────────────────────────────────────────────────────


@pytest.fixture
def defaults(env: dict[str, str]) -> dict[str, str]:
    """Nobody chose a plane or a backend."""
    return {name: value for name, value in env.items() if name not in PLANES} | {"ETCD_LEASE_TTL": "2"}


def on(servers: tuple[Nats, Etcd], env: Mapping[str, str]) -> dict[str, str]:
    nats, etcd = servers
    return {**env, "NATS_SERVER": nats.url, "ETCD_ENDPOINTS": etcd.url}


def test_guide_44_a_worker_on_nats_and_etcd_is_probed(
    terminal: Any, start: Any, processes: Any, defaults: dict[str, str], nats: Nats, own_etcd: Etcd
):
    env = on((nats, own_etcd), defaults)
    worker = start(env)
    visit = terminal(env).visit(PATH)
    visit.check_healthy()
    assert f"ok     {PATH}/0 on nats: accepted after" in visit.printed
    assert f"ok     etcd at {own_etcd.url} answers, with 1 key below v1/instances/" in visit.printed
    assert "answers, its max_payload is 1048576" in visit.printed
    assert "requests above 1040384 bytes are refused on nats" in visit.printed
    status, printed = processes.stop(worker)
    assert status == 0
    assert "the handler ran" not in printed


def test_guide_45_1_etcd_does_not_run(terminal: Any, defaults: dict[str, str], nats: Nats):
    nowhere = f"http://127.0.0.1:{free_port()}"
    visit = terminal({**defaults, "NATS_SERVER": nats.url, "ETCD_ENDPOINTS": nowhere}).visit(PATH)
    visit.check_ill(f"etcd at {nowhere} can't be used: ", "Connection refused")
    assert f"`etcdctl --endpoints={nowhere} endpoint health` asks whether it runs" in visit.printed
    assert "or set ETCD_ENDPOINTS to where it is" in visit.printed


def test_guide_45_1_one_member_of_several_is_enough(
    terminal: Any, defaults: dict[str, str], nats: Nats, own_etcd: Etcd
):
    nowhere = f"http://127.0.0.1:{free_port()}"
    env = on((nats, own_etcd), defaults) | {"ETCD_ENDPOINTS": f"{nowhere},{own_etcd.url}"}
    visit = terminal(env).visit()
    visit.check_healthy()
    assert f"note   etcd at {nowhere} can't be used: " in visit.printed


def test_guide_45_2_no_worker_is_registered(
    terminal: Any, defaults: dict[str, str], nats: Nats, own_etcd: Etcd
):
    visit = terminal(on((nats, own_etcd), defaults)).visit(PATH)
    visit.check_ill("No instances found: no worker of", f"etcd at {own_etcd.url}")
    assert f"etcdctl --endpoints={own_etcd.url} get --prefix v1/instances/" in visit.printed
    assert (
        "start one, with the same variables: DYN_REQUEST_PLANE=nats DYN_DISCOVERY_BACKEND=etcd"
        in visit.printed
    )
    assert "wait a few seconds" in visit.printed


def test_guide_45_4_the_workers_have_another_plane(
    terminal: Any, start: Any, defaults: dict[str, str], nats: Nats, own_etcd: Etcd
):
    env = on((nats, own_etcd), defaults)
    start(env)
    shell = terminal(env | {"DYN_REQUEST_PLANE": "http"})
    visit = shell.visit(PATH)
    visit.check_ill(f"{PATH}/0 is on nats, this side on http")
    assert visit.commands == ["export DYN_REQUEST_PLANE=nats"]
    shell.obey(visit)
    shell.visit(PATH).check_healthy()


def test_guide_44_nats_does_not_run(terminal: Any, start: Any, env: dict[str, str]):
    nowhere = f"nats://127.0.0.1:{free_port()}"
    shell = terminal(env | {"DYN_REQUEST_PLANE": "nats", "NATS_SERVER": nowhere})
    visit = shell.visit()
    visit.check_ill(f"no NATS server can be reached at {nowhere}: Connection refused")
    assert "or set NATS_SERVER to where it is" in visit.printed
    shell.obey(visit)
    shell.visit().check_healthy()


def test_guide_44_the_login_is_refused(
    terminal: Any, defaults: dict[str, str], own_etcd: Etcd, tmp_path: Path
):
    guarded = Nats(tmp_path / "guarded", config='authorization { user: "me", password: "hunter2" }').start()
    try:
        env = on((guarded, own_etcd), defaults)
        visit = terminal(env | {"NATS_AUTH_USERNAME": "me", "NATS_AUTH_PASSWORD": "hunter3"}).visit()
        visit.check_ill("NATS_SERVER", "it refuses the login", "NATS_AUTH_USERNAME")
        assert "hunter" not in visit.printed
    finally:
        guarded.close()


def test_guide_44_a_worker_on_nats_is_gone(
    terminal: Any, start: Any, defaults: dict[str, str], nats: Nats, own_etcd: Etcd
):
    """Its record stays until its lease is over."""
    env = on((nats, own_etcd), defaults) | {"ETCD_LEASE_TTL": "60"}
    worker = start(env)
    worker.kill()
    worker.wait()
    visit = terminal(env).visit(PATH)
    visit.check_ill(f"{PATH}/0: nobody answers at default_backend.generate-", "nobody listens there")
    assert "does the worker run?" in visit.printed
    assert "its record goes too, as soon as its lease is over" in visit.printed


def test_guide_44_a_frontend_does_not_mind_a_port_that_is_taken(
    terminal: Any, start: Any, env: dict[str, str], busy: int
):
    start(env)
    visit = terminal(env | {"DYN_HTTP_RPC_PORT": str(busy)}).visit(PATH)
    visit.check_healthy()
    assert f"note   DYN_HTTP_RPC_PORT={busy}: " in visit.printed
    assert "a frontend does not mind" in visit.printed
