"""Our response plane and discovery backends conform, as users have them: from wheels, by one line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from from_wheels import PATIENCE, Restarted, Suite, reasons
from ports import free_port
from servers import binary

pytestmark = [pytest.mark.system, pytest.mark.timeout(PATIENCE + 60)]

PUT_FILE = """\
import os, pathlib, urllib.parse
prefix = "v1/instances/"
name = urllib.parse.quote(os.environ["KEY"].removeprefix(prefix), safe="")
file = pathlib.Path(os.environ["DYN_FILE_KV"], prefix, name)
if os.environ["VALUE"]:
    file.write_text(os.environ["VALUE"])
else:
    file.unlink()
"""
"""Writes a record where another program of the file backend would."""


def test_tcp_stream(suite: Suite):
    result = suite.run("--transport", "tcp_stream")
    assert result["level"] == "full"
    assert reasons(result) == {}


def test_file(suite: Suite, tmp_path: Path):
    """It depends on no server that could come back."""
    (tmp_path / "put.py").write_text(PUT_FILE)
    put = shlex.join([sys.executable, str(tmp_path / "put.py")])
    result = suite.run("--discovery", "file", "--put-record", put)
    assert result["level"] == "base"
    assert set(reasons(result)) == {"not claimed: reconnects"}


def test_etcd(suite: Suite, restarted: Callable[..., Restarted], tmp_path: Path):
    port, peer = free_port(), free_port()
    here, there = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    server = restarted(
        port,
        [
            *(binary("etcd"), "--data-dir", str(tmp_path / "data"), "--listen-client-urls", here),
            *("--advertise-client-urls", here, "--listen-peer-urls", there),
            *("--initial-advertise-peer-urls", there, "--initial-cluster", f"default={there}"),
        ],
    )
    ctl = f"{binary('etcdctl')} --endpoints {here}"
    put = f'if [ -n "$VALUE" ]; then {ctl} put -- "$KEY" "$VALUE"; else {ctl} del -- "$KEY"; fi'
    arguments = ["--discovery", "etcd", "--put-record", put, "--restart-peer", server.command]
    result = suite.run(*arguments, ETCD_ENDPOINTS=here)
    assert result["level"] == "full"
    assert reasons(result) == {}
