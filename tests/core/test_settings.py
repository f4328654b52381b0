"""How values are written that more than one plugin reads."""

from __future__ import annotations

import pytest
from reqplane.errors import SettingsError
from reqplane.settings import Settings, is_wildcard, load, log_level, reachable_address, reachable_host
from reqplane.sockets import told_address

WILDCARDS = [
    "0.0.0.0",
    "::",
    "0",
    "0x0",
    "00",
    "0.0",
    "0x0.0",
    "0::0",
    "::0.0.0.0",
    "::ffff:0.0.0.0",
    "::%lo",
]
HOSTS = ["127.0.0.1", "::1", "10", "0.1", "localhost", "worker-0", "fe80::1%eth0", "example.org"]


@pytest.mark.parametrize("host", WILDCARDS)
def test_every_spelling_of_a_wildcard(host: str) -> None:
    assert is_wildcard(host)
    with pytest.raises(ValueError, match="that others can connect to"):
        reachable_host(f"[{host}]" if ":" in host else host)


@pytest.mark.parametrize("host", HOSTS)
def test_what_is_no_wildcard(host: str) -> None:
    assert not is_wildcard(host)
    assert reachable_host(f"[{host}]" if ":" in host else host) == host


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *((host, (host, 8081)) for host in HOSTS),
        ("[::1]", ("::1", 8081)),
        ("balancer:80", ("balancer", 80)),
        ("10.0.0.9:18081", ("10.0.0.9", 18081)),
        ("[2001:db8::1]:80", ("2001:db8::1", 80)),
    ],
)
def test_what_others_are_told_may_have_a_port_of_its_own(written: str, meant: tuple[str, int]) -> None:
    assert told_address(reachable_address(written), 8081) == meant


@pytest.mark.parametrize(
    "written", ["balancer:", "balancer:0", "balancer:65536", "balancer:http", "0.0.0.0:80", "[::]:80", ":80"]
)
def test_what_others_can_not_be_told(written: str) -> None:
    with pytest.raises(ValueError, match="wanted"):
        reachable_address(written)


def test_a_host_has_no_port() -> None:
    with pytest.raises(ValueError, match="without scheme and port"):
        reachable_host("balancer:80")


@pytest.mark.parametrize("window", ["1023", "1073741825", "8589934592", "-1", "many"])
def test_a_window_that_a_credit_cannot_carry(window: str) -> None:
    with pytest.raises(SettingsError, match=r"DYN_STREAM_WINDOW_BYTES.* from 1024 to 1073741824"):
        load(Settings, {"DYN_STREAM_WINDOW_BYTES": window})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *((level, level) for level in ("debug", "info", "warning", "error")),
        ("warn", "warning"),
        ("TRACE", "debug"),
        ("info,dynamo_runtime::system=trace", "info"),
        ("dynamo_runtime=debug", "info"),
        ("h2=off, warn", "warning"),
    ],
)
def test_levels_as_dynamo_takes_them_too(written: str, meant: str) -> None:
    assert log_level(written) == meant


@pytest.mark.parametrize("written", ["loud", "info,debug", ",", "info;debug"])
def test_levels_that_are_none(written: str) -> None:
    with pytest.raises(ValueError, match="wanted one of debug, info, warning, error"):
        log_level(written)


@pytest.mark.parametrize(("written", "dynamo"), [("", False), ("guide", False), ("dynamo", True)])
def test_the_wire_profile(written: str, dynamo: bool) -> None:
    assert load(Settings, {"DYN_WIRE_PROFILE": written}).dynamo == dynamo
    with pytest.raises(SettingsError, match=r"DYN_WIRE_PROFILE='Dynamo': wanted one of guide, dynamo"):
        load(Settings, {"DYN_WIRE_PROFILE": "Dynamo"})
