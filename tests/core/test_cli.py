"""The command line: what it prints, and the exit status."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import reqplane
from reqplane.cli import main
from reqplane.cli.call import as_json
from reqplane.errors import HandlerFailed, NoInstances, PluginNotFound, SettingsError
from reqplane.model import EndpointId, Instance

PATH = "default.backend.generate"


class FakeStream:
    instance = Instance(EndpointId.parse(PATH), 7, 1, {})
    plane = "http"
    request_id = "r1"

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __await__(self) -> Generator[Any, None, FakeStream]:
        return self
        yield

    async def __aenter__(self) -> FakeStream:
        return self

    async def __aexit__(self, *error: object) -> None: ...

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self.items:
            if isinstance(item, BaseException):
                raise item
            yield item


class FakeRuntime:
    """Stands in for a runtime, its endpoint and its client; notes what it was asked."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.asked: dict[str, Any] = {}
        self.failure: BaseException | None = None

    @asynccontextmanager
    async def connect(self, env: Any = None, *, signals: bool = True) -> AsyncGenerator[FakeRuntime]:
        self.asked["signals"] = signals
        yield self

    def endpoint(self, path: str) -> FakeRuntime:
        self.asked["path"] = path
        return self

    async def client(self, **options: Any) -> FakeRuntime:
        self.asked.update(options)
        return self

    async def wait_for_instances(self, timeout: float) -> None:
        self.asked["patience"] = timeout
        if self.failure:
            raise self.failure

    def generate(self, request: Any, *, timeout: float | None) -> FakeStream:
        self.asked.update(request=request, timeout=timeout)
        return FakeStream(self.items)

    def direct(self, request: Any, instance_id: int, *, timeout: float | None) -> FakeStream:
        self.asked.update(instance=instance_id)
        return self.generate(request, timeout=timeout)

    async def serve_endpoint(self, handler: Any, **bounds: Any) -> None:
        self.asked["handler"] = handler
        if self.failure:
            raise self.failure


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    fake = FakeRuntime()
    monkeypatch.setattr(reqplane, "connect", fake.connect)
    return fake


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, whose modules are forgotten afterwards."""
    known, path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - known:
        del sys.modules[name]


# ── call ────────────────────────────────────────────────────────────────────────────────────────────


def test_each_item_is_a_line(runtime: FakeRuntime, capsys: pytest.CaptureFixture[str]):
    runtime.items = [{"i": 0}, None, "ä", b"\x00", [1.5]]
    assert main(["call", f"dyn://{PATH}", '{"n": 3}']) == 0
    assert capsys.readouterr().out == '{"i": 0}\nnull\n"ä"\n{"$bytes": "AA=="}\n[1.5]\n'
    assert runtime.asked == {
        "path": PATH,
        "request": {"n": 3},
        "timeout": None,
        "patience": 10.0,
        "signals": False,
    }


def test_odd_items_are_printed_somehow():
    assert as_json({1: 2, b"k": [{(1, 2): b"v"}]}) == (
        '{"1": 2, "{\\"$bytes\\": \\"aw==\\"}": [{"[1, 2]": {"$bytes": "dg=="}}]}'
    )
    assert as_json({1}) == '"{1}"'


def test_a_call_to_one_worker(runtime: FakeRuntime):
    assert main(["call", PATH, "1", "--instance", "7", "--timeout", "2.5"]) == 0
    assert runtime.asked["instance"] == 7
    assert runtime.asked["patience"] == 2.5
    assert 2 < runtime.asked["timeout"] <= 2.5


def test_a_call_by_another_router_mode(runtime: FakeRuntime):
    assert main(["call", PATH, "1", "--router-mode", "random"]) == 0
    assert runtime.asked["router_mode"] == "random"


def test_the_request_may_come_from_standard_input(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"long": true}\n'))
    assert main(["call", PATH, "-"]) == 0
    assert runtime.asked["request"] == {"long": True}


def test_verbose_tells_who_and_when(runtime: FakeRuntime, capsys: pytest.CaptureFixture[str]):
    runtime.items = [1, 2]
    assert main(["call", PATH, "{}", "-v"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "1\n2\n"
    told = [re.sub(r"^ *\d+\.\d ms  ", "", line) for line in captured.err.splitlines()]
    assert told == ["instance 7 by http, request r1", "accepted", "first item", "end, 2 items"]


def test_what_was_printed_stays_when_it_fails(runtime: FakeRuntime, capsys: pytest.CaptureFixture[str]):
    runtime.items = [1, HandlerFailed("no\nmore", items_received=1)]
    assert main(["call", PATH, "{}"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "1\n"
    assert captured.err == (
        "reqplane: the handler failed: no more (after 1 items); see docs/errors.md#HandlerFailed\n"
    )


def test_nobody_there_is_a_failure(runtime: FakeRuntime, capsys: pytest.CaptureFixture[str]):
    runtime.failure = NoInstances(endpoint=PATH, planes=["http"], where="the folder /x")
    assert main(["call", PATH, "{}"]) == 1
    assert capsys.readouterr().err.endswith("see docs/errors.md#NoInstances\n")


@pytest.mark.parametrize(
    "error",
    [SettingsError([("DYN_LOG", "x", "no")]), PluginNotFound("codec", "x", [])],
    ids=["setting", "plugin"],
)
def test_settings_and_plugins_have_their_own_status(runtime: FakeRuntime, error: Exception):
    runtime.failure = error
    assert main(["call", PATH, "{}"]) == 2


def test_ctrl_c(runtime: FakeRuntime):
    runtime.items = [KeyboardInterrupt()]
    assert main(["call", PATH, "{}"]) == 130


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["call", PATH, "{n: 3}"], "the request is not JSON: Expecting property name"),
        (["call", PATH, "[" * 100_000], "the request is not JSON"),
        (["call", "generate", "{}"], "is not an endpoint path"),
        (["call", PATH, "{}", "--timeout", "-1"], "is not a number of seconds above 0"),
        (["call", PATH, "{}", "--instance", "x"], "'x' is not an instance's number"),
        (["call", PATH, "{}", "--router-mode", "direct"], "needs --instance ID"),
        (["call", PATH], "the following arguments are required: JSON"),
        (["fetch"], "invalid choice: 'fetch'"),
        ([], "required: COMMAND"),
    ],
)
def test_a_wrong_command_line(
    runtime: FakeRuntime, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
):
    assert main(arguments) == 2
    assert complaint in capsys.readouterr().err


# ── serve ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_handler_is_served(runtime: FakeRuntime, here: Path):
    (here / "my_worker.py").write_text("async def generate(request): yield 1\n")
    assert main(["serve", "my_worker:generate", PATH]) == 0
    assert runtime.asked["handler"].__name__ == "generate"
    assert runtime.asked["signals"] is True


def test_drain_time_ran_out(runtime: FakeRuntime, capsys: pytest.CaptureFixture[str]):
    runtime.failure = TimeoutError()
    assert main(["serve", "json:dumps", PATH]) == 1
    assert "drain time ran out" in capsys.readouterr().err


def test_a_function_that_cannot_be_served(runtime: FakeRuntime, capsys: pytest.CaptureFixture[str]):
    runtime.failure = TypeError("wanted an async generator")
    assert main(["serve", "json:dumps", PATH]) == 2
    assert capsys.readouterr().err == "reqplane: wanted an async generator\n"


@pytest.mark.parametrize(
    ("handler", "code", "complaint"),
    [
        ("generate", "", "'generate' is not MODULE:FUNCTION, such as worker:generate"),
        ("nowhere_at_all:f", "", "there is no module 'nowhere_at_all', neither here nor installed"),
        ("my_worker.part:f", "", "there is no module 'my_worker.part'"),
        ("my_worker:generat", "def generate(): ...", "has no 'generat'; did you mean 'generate'?"),
        ("my_worker:x", "x = 3", "my_worker:x is not a function"),
        ("my_worker:x", "import nowhere_at_all", "can't be imported: No module named 'nowhere_at_all'"),
        ("my_worker:x", "\n1 / 0", "my_worker.py:2: ZeroDivisionError: division by zero"),
        ("my_worker:x", "def", "SyntaxError: invalid syntax (my_worker.py, line 1)"),
        ("my_worker:x", "raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_a_handler_that_is_not_there(
    here: Path, handler: str, code: str, complaint: str, capsys: pytest.CaptureFixture[str]
):
    (here / "my_worker.py").write_text(code)
    assert main(["serve", handler, PATH]) == 2
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert len(captured.err.splitlines()) == 1


# ── plugins ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def _serverless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYN_REQUEST_PLANE", "http")
    monkeypatch.setenv("DYN_DISCOVERY_BACKEND", "file")


@pytest.mark.usefixtures("_serverless")
def test_the_list_of_plugins(capsys: pytest.CaptureFixture[str]):
    assert main(["plugins"]) == 0
    captured = capsys.readouterr()
    head, builtin, *transports = captured.out.splitlines()
    assert head.split()[:4] == ["NAME", "DISTRIBUTION", "VERSION", "CHOSEN"]
    assert "codec msgpack*, json" in builtin
    assert "discovery backend file*, mem, static" in builtin
    assert "router mode round_robin*, random, least_loaded, power_of_two, direct" in builtin
    assert [line.split()[0] for line in transports] == ["http", "memory", "nats", "tcp", "tcp_stream"]
    assert captured.err == ""


@pytest.mark.usefixtures("_serverless")
def test_the_list_for_programs(capsys: pytest.CaptureFixture[str]):
    assert main(["plugins", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    http = next(row for row in rows if row["name"] == "http")
    assert http == {
        "name": "http",
        "distribution": "reqplane-http",
        "version": "0.1.0",
        "group": "reqplane.transports",
        "offers": [{"kind": "request plane", "name": "http", "chosen": True}],
        "disabled": False,
        "broken": None,
        "chosen": True,
    }


def test_the_list_says_what_will_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("DYN_REQUEST_PLANE", "carrier")
    monkeypatch.setenv("DYN_DISCOVERY_BACKEND", "file")
    assert main(["plugins"]) == 0
    captured = capsys.readouterr()
    assert "builtin" in captured.out
    assert "connect() fails: there is no request plane 'carrier'" in captured.err


def test_a_bad_setting_is_told_before_any_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("DYN_LOG", "loud")
    assert main(["plugins"]) == 2
    assert capsys.readouterr().err.startswith("reqplane: DYN_LOG='loud': wanted one of")


# ── the whole ───────────────────────────────────────────────────────────────────────────────────────


COMMANDS = ["serve", "call", "instances", "plugins", "doctor", "bench", "completion"]


@pytest.mark.parametrize("command", [*COMMANDS, "demo", "demo server", "demo client"])
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]):
    assert main([*command.split(), "--help"]) == 0
    assert f"example:\n  reqplane {command}" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "reqplane 0.1.0\n"


def test_a_reader_that_has_enough_is_no_failure_to_tell_of():
    """`reqplane plugins | head -0`: no traceback, whoever closes the pipe."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        command = [sys.executable, "-m", "reqplane", "plugins", "--json"]
        done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(write_end)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


# ── for real: processes, the http plane, the file backend ────────────────────────────────────────────

WORKER = """
import asyncio

async def count(request):
    for i in range(request["n"]):
        yield {"i": i}
        await asyncio.sleep(request.get("pause", 0))

async def stubborn(request):
    yield 1
    await asyncio.sleep(60)
"""


class Shell:
    """Runs `reqplane` in a folder, serverless, as a user would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **os.environ,
            "DYN_REQUEST_PLANE": "http",
            "DYN_DISCOVERY_BACKEND": "file",
            "DYN_FILE_KV": str(folder / "kv"),
            "DYN_HTTP_RPC_HOST": "127.0.0.1",
            "DYN_HTTP_RPC_PORT": "0",
            "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
            "DYN_WORKER_GRACEFUL_SHUTDOWN_TIMEOUT": "0.5",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "reqplane", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "my_worker.py").write_text(WORKER)
    return Shell(tmp_path)


def stopped(worker: subprocess.Popen[str]) -> tuple[int, str]:
    worker.terminate()
    _, err = worker.communicate(timeout=30)
    return worker.returncode, err


@pytest.mark.system
def test_a_worker_is_served_called_and_stopped(shell: Shell):
    worker = shell.start("serve", "my_worker:count", PATH)
    try:
        assert shell.run("call", PATH, '{"n": 3}') == (0, '{"i": 0}\n{"i": 1}\n{"i": 2}\n', "")
        status, out, err = shell.run("call", PATH, '{"m": 3}')
        assert (status, out) == (1, "")
        assert err.startswith("reqplane: the handler failed: KeyError: 'n'")
    finally:
        status, log = stopped(worker)
    assert status == 0
    assert f"serving {PATH} as instance 0" in log


@pytest.mark.system
def test_ctrl_c_while_the_program_is_loaded():
    interrupted = """if True:
        import os, signal, sys

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "reqplane.cli":
                    os.kill(os.getpid(), signal.SIGINT)

        sys.meta_path.insert(0, Finder())
        import reqplane_command

        sys.exit(reqplane_command.main())
    """
    done = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")  # 130 to a shell


def test_ctrl_c_ends_a_call_and_a_worker(shell: Shell):
    worker = shell.start("serve", "my_worker:count", PATH)
    try:
        caller = shell.start("call", PATH, '{"n": 100, "pause": 0.2}')
        assert caller.stdout is not None
        assert caller.stdout.readline() == '{"i": 0}\n'
        caller.send_signal(signal.SIGINT)
        _, err = caller.communicate(timeout=30)
        assert (caller.returncode, err) == (130, "")
    finally:
        worker.send_signal(signal.SIGINT)
        worker.communicate(timeout=30)
    assert worker.returncode == 0


@pytest.mark.system
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT], ids=["after SIGTERM", "after SIGINT"])
@pytest.mark.parametrize(
    ("second", "status"), [(signal.SIGTERM, -15), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_second_signal_ends_a_worker_that_drains(
    shell: Shell, first: signal.Signals, second: signal.Signals, status: int
):
    shell.env["DYN_WORKER_GRACEFUL_SHUTDOWN_TIMEOUT"] = "60"
    worker = shell.start("serve", "my_worker:stubborn", PATH)
    caller = shell.start("call", PATH, "{}")
    try:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "1\n"
        worker.send_signal(first)
        registered = shell.folder / "kv" / "v1" / "instances"
        limit = time.monotonic() + 20
        while list(registered.iterdir()):  # it leaves discovery first
            assert time.monotonic() < limit
            time.sleep(0.02)
        assert worker.poll() is None
        worker.send_signal(second)
        worker.communicate(timeout=10)
        assert worker.returncode == status
    finally:
        for process in (worker, caller):
            process.kill()
            process.communicate()


@pytest.mark.system
def test_a_handler_that_does_not_end_is_told_by_the_status(shell: Shell):
    worker = shell.start("serve", "my_worker:stubborn", PATH)
    try:
        caller = shell.start("call", PATH, "{}")
        assert caller.stdout is not None
        assert caller.stdout.readline() == "1\n"
    finally:
        status, log = stopped(worker)
    assert status == 1
    assert "drain time ran out" in log
    caller.communicate(timeout=30)
    assert caller.returncode == 1


@pytest.mark.parametrize(
    ("shell", "status", "words"),
    [
        ("call a.b.c - <&-", 2, "the request is not JSON"),
        ("plugins >&-", 0, ""),
        ("plugins >/dev/full", 1, "the output can't be written"),
    ],
)
def test_streams_that_are_closed_or_full_cost_no_traceback(shell: str, status: int, words: str):
    env = {**os.environ, "DYN_REQUEST_PLANE": "http", "DYN_DISCOVERY_BACKEND": "mem"}
    command = f"exec {sys.executable} -m reqplane {shell}"
    found = subprocess.run(["sh", "-c", command], env=env, stderr=subprocess.PIPE, text=True, check=False)
    assert (found.returncode, words in found.stderr) == (status, True), found.stderr
    assert "Traceback" not in found.stderr


# ── how workers run ─────────────────────────────────────────────────────────────────────────────────

LOOP_WORKER = """
import asyncio

async def loop(request):
    yield type(asyncio.get_running_loop()).__module__
"""


@pytest.mark.system
@pytest.mark.parametrize("uvloop", [True, False], ids=["with uvloop", "without uvloop"])
def test_a_worker_runs_on_uvloop_where_it_is_installed(shell: Shell, uvloop: bool):
    if uvloop:
        pytest.importorskip("uvloop")
    else:
        (shell.folder / "uvloop.py").write_text("raise ImportError('not here')")
        shell.env["PYTHONPATH"] = str(shell.folder)
    (shell.folder / "looping.py").write_text(LOOP_WORKER)
    worker = shell.start("serve", "looping:loop", PATH)
    try:
        status, out, _ = shell.run("call", PATH, "1")
        assert status == 0
        assert out == ('"uvloop"\n' if uvloop else '"asyncio.unix_events"\n')
    finally:
        assert stopped(worker)[0] == 0


@pytest.mark.system
def test_a_busy_port_is_a_line_that_says_what_to_do(shell: Shell):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        shell.env["DYN_HTTP_RPC_PORT"] = str(port)
        status, out, err = shell.run("serve", "my_worker:count", PATH)
    assert (status, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.startswith("reqplane: ")]
    assert line.startswith(f"reqplane: DYN_HTTP_RPC_PORT='{port}': the address 127.0.0.1:{port} is taken by ")
    assert f"process {os.getpid()} (" in line
    assert line.endswith("or DYN_HTTP_RPC_PORT=0 for any free one; see docs/errors.md#SettingsError")
    assert "Traceback" not in err
