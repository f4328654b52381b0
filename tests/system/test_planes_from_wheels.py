"""Each of our request planes conforms, as users have it: from wheels, by the suite's one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from from_wheels import PATIENCE, Restarted, Suite, reasons
from ports import free_port
from servers import binary

pytestmark = [pytest.mark.system, pytest.mark.timeout(PATIENCE + 60)]

NO_PORT = {
    "does not apply: its records name no address that a socket could reach",
    "does not apply: its `loopback` has no variable whose name ends with PORT",
}
"""A plane by way of a server has no listener of its own that strangers could talk to."""


def test_http(suite: Suite):
    result = suite.run("--transport", "http")
    assert (result["level"], result["source"]) == ("full", "reqplane-http 0.1.0")
    assert reasons(result) == {}


def test_nats(suite: Suite, restarted: Callable[..., Restarted]):
    """Whoever is sent to is named by the subject, so no two workers share an address."""
    port = free_port()
    server = restarted(port, [binary("nats-server"), "-a", "127.0.0.1", "-p", str(port)])
    url = f"nats://127.0.0.1:{port}"
    result = suite.run("--transport", "nats", "--restart-peer", server.command, NATS_SERVER=url)
    assert result["level"] == "base"
    unclaimed = {
        case["id"]: case["reason"] for case in result["cases"] if case["needs"] == ["shared_address"]
    }
    assert set(unclaimed.values()) == {"not claimed: shared_address"}
    assert set(reasons(result)) <= NO_PORT | {"not claimed: shared_address"}


def test_tcp(suite: Suite):
    """The path in a record names its worker, so no two share an address."""
    result = suite.run("--transport", "tcp")
    assert (result["level"], result["source"]) == ("base", "reqplane-tcp 0.1.0")
    assert reasons(result) == {"not claimed: shared_address": 1}
