"""How values are written that more than one plugin reads."""

from __future__ import annotations

import pytest
from reqplane.errors import SettingsError
from reqplane.settings import Settings, is_wildcard, load, reachable_host

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


@pytest.mark.parametrize("window", ["1023", "1073741825", "8589934592", "-1", "many"])
def test_a_window_that_a_credit_cannot_carry(window: str) -> None:
    with pytest.raises(SettingsError, match=r"DYN_STREAM_WINDOW_BYTES.* from 1024 to 1073741824"):
        load(Settings, {"DYN_STREAM_WINDOW_BYTES": window})
