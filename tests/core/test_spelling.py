"""A variable that is nearly a setting's name is warned about."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest
import reqplane
from reqplane.settings import FileSettings, Settings
from reqplane.spelling import OF_OTHERS, known, unknown
from reqplane_http.settings import HttpSettings
from reqplane_tcp_stream.settings import TcpStreamSettings

CLASSES = (Settings, FileSettings, HttpSettings, TcpStreamSettings)
ENV = {"DYN_REQUEST_PLANE": "http", "DYN_DISCOVERY_BACKEND": "mem"}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DYN_REQUESTPLANE", "DYN_REQUEST_PLANE"),
        ("DYN_HTTP_RPC_PROT", "DYN_HTTP_RPC_PORT"),
        ("DYN_DISCOVERY_BACKENDS", "DYN_DISCOVERY_BACKEND"),
        ("DYN_FILEKV", "DYN_FILE_KV"),
        ("dyn_request_plane", "DYN_REQUEST_PLANE"),
        ("ETCD_ENDPOINT", "ETCD_ENDPOINTS"),
        ("NATS_SERVERS", "NATS_SERVER"),
        ("DYN_TCP_RPC_PRT", "DYN_TCP_RPC_PORT"),
        ("DYN_MY_MODEL", None),
        ("NATS_URL", None),
        ("ETCD_DATA_DIR", None),
    ],
)
def test_what_may_be_meant(name: str, meant: str | None):
    assert unknown({name: "x"}, CLASSES) == {name: meant}


def test_what_is_known_is_not_misspelt():
    everything = dict.fromkeys([*known(CLASSES), *OF_OTHERS, "PATH", "DYNAMIC_X"], "x")
    assert unknown(everything, CLASSES) == {}
    assert unknown({"DYN_REQUESTPLANE": " "}, CLASSES) == {}


async def test_connect_warns_once_a_name(caplog: pytest.LogCaptureFixture):
    env = ENV | {"DYN_REQUEST_PLANE_CODE": "json", "DYN_MY_MODEL": "x", "DYN_SYSTEM_HOST": "x"}
    for _ in range(2):
        async with reqplane.connect(env, signals=False):
            pass
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == ["DYN_REQUEST_PLANE_CODE is not a setting; did you mean DYN_REQUEST_PLANE_CODEC?"]


@pytest.mark.system
def test_a_user_sees_it(shell: dict[str, str]):
    call = [sys.executable, "-m", "reqplane", "call", "a.b.c", "1", "--timeout", "0.1"]
    done = subprocess.run(call, env=shell, capture_output=True, text=True, check=False)
    assert done.stderr.count("DYN_HTTP_RPC_PROT is not a setting; did you mean DYN_HTTP_RPC_PORT?") == 1


@pytest.fixture
def shell(tmp_path: Any) -> dict[str, str]:
    import os

    return {
        **os.environ,
        **ENV,
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_FILE_KV": str(tmp_path),
        "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
        "DYN_HTTP_RPC_PROT": "0",
    }
