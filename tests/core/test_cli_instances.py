"""`reqplane instances`: what it prints, and the exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reqplane.cli import main
from reqplane.model import EndpointId
from reqplane.wire.records import encode_record, instance_name, make_record

GENERATE = EndpointId("default", "backend", "generate")
EMBED = EndpointId("default", "backend", "embed")
HTTP = {"http_tcp": {"tcp_endpoint": "a:9000", "http_endpoint": "http://a:8081/v1/dynamo/x"}}


class Records:
    """The folder of a file backend, written by hand."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._instances = folder / "v1" / "instances"
        self._instances.mkdir(parents=True)

    def put(
        self, number: int, endpoint: EndpointId = GENERATE, transport: Any = HTTP, **optional: Any
    ) -> None:
        planes = optional.pop("planes", ["http"])
        record = make_record(endpoint, number, 100 + number, transport, "msgpack", planes, **optional)
        there = self._instances / instance_name(endpoint, number)
        draft = there.with_name(".draft")
        draft.write_bytes(encode_record(record))
        draft.replace(there)

    def drop(self, number: int, endpoint: EndpointId = GENERATE) -> None:
        (self._instances / instance_name(endpoint, number)).unlink()


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    """What discovery holds; and the request plane is one that nobody has."""
    monkeypatch.setenv("DYN_DISCOVERY_BACKEND", "file")
    monkeypatch.setenv("DYN_REQUEST_PLANE", "carrier")
    monkeypatch.setenv("DYN_FILE_KV", str(tmp_path / "kv"))
    return Records(tmp_path / "kv")


def printed(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The table's rows, cell by cell."""
    captured = capsys.readouterr()
    assert captured.err == ""
    return [line.split("  ") for line in captured.out.splitlines()]


def cells(row: list[str]) -> list[str]:
    return [cell.strip() for cell in row if cell.strip()]


def test_a_table_by_path_and_number(records: Records, capsys: pytest.CaptureFixture[str]):
    records.put(10)
    records.put(2, started=time.time() - 7200)
    records.put(0, EMBED, {"tcp": "b:1/0/x", "nats_tcp": "default_x"}, planes=["tcp", "nats"])
    assert main(["instances"]) == 0
    head, *rows = map(cells, printed(capsys))
    assert head == ["PATH", "INSTANCE", "PLANES", "AGE", "ADDRESS"]
    assert rows == [
        ["default.backend.embed", "0", "tcp,nats", "-", "b:1, default_x"],
        ["default.backend.generate", "2", "http", "2 h", "http://a:8081"],
        ["default.backend.generate", "10", "http", "-", "http://a:8081"],
    ]


def test_one_endpoint_only(records: Records, capsys: pytest.CaptureFixture[str]):
    records.put(0)
    records.put(0, EMBED)
    assert main(["instances", f"dyn://{EMBED}"]) == 0
    assert [row[0] for row in printed(capsys)[1:]] == [str(EMBED)]


def test_an_array_for_programs(records: Records, capsys: pytest.CaptureFixture[str]):
    records.put(3, version="0.1.0", started=time.time() - 5)
    assert main(["instances", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert 5 <= row.pop("age") < 60
    assert row == {
        "path": "default.backend.generate",
        "instance": 3,
        "incarnation": 103,
        "planes": ["http"],
        "address": "http://a:8081",
        "version": "0.1.0",
        "codec": "msgpack",
        "transport": HTTP,
    }


def test_nobody_there(records: Records, capsys: pytest.CaptureFixture[str]):
    assert main(["instances", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == []
    assert captured.err == f"no worker is registered in the folder {records.path}\n"


def test_nobody_of_that_name(records: Records, capsys: pytest.CaptureFixture[str]):
    records.put(0)
    assert main(["instances", "default.backend.generat"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    assert f"registered in the folder {records.path}; did you mean {GENERATE}?" in captured.err


def test_nothing_that_a_terminal_would_obey(records: Records, capsys: pytest.CaptureFixture[str]):
    evil = "\x1b[2J\u202e\x9b\r\n" + "x" * 1000
    records.put(0, GENERATE, {evil: {evil: evil}}, planes=[evil])
    assert main(["instances"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 2
    assert all(line.isprintable() for line in out.splitlines())
    assert "\\x1b[2J" in out
    assert len(out) < 1000
    assert main(["instances", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert all(line.isprintable() for line in out.splitlines())
    assert json.loads(out)[0]["planes"] == [evil]


def test_no_password_of_a_url(records: Records, capsys: pytest.CaptureFixture[str]):
    urls = {"tcp": "http://me:hunter2@a:1/x", "other": {"urls": [{"url": "amqp://me:hunter2@b:2/"}]}}
    records.put(0, GENERATE, urls, planes=["tcp"])
    for arguments in ([], ["--json"]):
        assert main(["instances", *arguments]) == 0
        out = capsys.readouterr().out
        assert "hunter2" not in out
        assert "http://***@a:1" in out


def test_ages_are_short_and_never_negative(records: Records, capsys: pytest.CaptureFixture[str]):
    for number, age in enumerate([-3600, 119.6, 130, 7300, 200_000]):
        records.put(number, started=time.time() - age)
    assert main(["instances"]) == 0
    assert [cells(row)[3] for row in printed(capsys)[1:]] == ["0 s", "120 s", "2 min", "2 h", "2 d"]


def test_static_entries_are_listed_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("DYN_DISCOVERY_BACKEND", "static")
    monkeypatch.setenv("DYN_STATIC_INSTANCES", "a.b.c=h2c://balancer:99/x")
    assert main(["instances"]) == 0
    assert cells(printed(capsys)[1]) == ["a.b.c", "0", "http", "-", "h2c://balancer:99"]


@pytest.mark.parametrize(
    "path",
    ["", "a.b", "../x.b.c", "a.b.c%2fd", "a.b.c/d", "*.b.c", "a.b.>", "http://a/b.c.d", f"a.b.{'c' * 129}"],
)
@pytest.mark.parametrize("command", [["instances"], ["call"], ["serve", "json:dumps"]], ids=lambda it: it[0])
def test_a_path_that_is_none(command: list[str], path: str, capsys: pytest.CaptureFixture[str]):
    rest = ["{}"] if command == ["call"] else []
    assert main([*command, path, *rest]) == 2
    assert "endpoint path" in capsys.readouterr().err


def test_a_backend_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("DYN_DISCOVERY_BACKEND", "fil")
    assert main(["instances"]) == 2
    assert "did you mean 'file'?" in capsys.readouterr().err


def test_a_folder_that_can_not_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "kv").write_text("")
    monkeypatch.setenv("DYN_DISCOVERY_BACKEND", "file")
    monkeypatch.setenv("DYN_FILE_KV", str(tmp_path / "kv"))
    assert main(["instances"]) == 1
    assert "DYN_FILE_KV" in capsys.readouterr().err


# ── watching, in a process of its own ───────────────────────────────────────────────────────────────


@pytest.fixture
def watching(records: Records) -> Iterator[Any]:
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "reqplane", "instances", "--watch", *arguments]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, env=os.environ, stdout=pipe, stderr=pipe, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_changes_are_told_a_line_each_until_ctrl_c(records: Records, watching: Any):
    records.put(0)
    process = watching("--json")
    assert json.loads(next_line(process)).items() >= {"change": "up", "instance": 0}.items()
    records.put(1)
    assert json.loads(next_line(process)).items() >= {"change": "up", "instance": 1}.items()
    records.drop(0)
    assert json.loads(next_line(process)).items() >= {"change": "down", "instance": 0}.items()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130


def test_changes_for_people(records: Records, watching: Any):
    process = watching(str(GENERATE))
    assert next_line(process).split() == ["CHANGE", "PATH", "INSTANCE", "PLANES", "AGE", "ADDRESS"]
    records.put(0, EMBED)
    records.put(7)
    assert next_line(process).split() == ["up", str(GENERATE), "7", "http", "-", "http://a:8081"]
    records.drop(7)
    assert next_line(process).split() == ["down", str(GENERATE), "7", "http", "-", "http://a:8081"]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.startswith(f"No instances found for {GENERATE}: no worker of it is registered in")
    assert len(err.splitlines()) == 1
