"""The backends of one process conform; the others are tried from wheels, in tests/system."""

from __future__ import annotations

from pathlib import Path

from reqplane.discovery.memory import MemoryDiscovery
from reqplane.discovery.static import StaticDiscovery
from reqplane_conformance import DiscoveryConformance

from .toys import pytest_run


class TestMemory(DiscoveryConformance):
    discovery = MemoryDiscovery


class TestStatic(DiscoveryConformance):
    discovery = StaticDiscovery


# ── by name alone ───────────────────────────────────────────────────────────────────────────────────

BY_NAME = ("--pyargs", "reqplane_conformance", "--discovery", "file", "-k", "both_layouts or first_batch")


def test_without_it_what_is_claimed_is_not_shown(tmp_path: Path):
    run = pytest_run(tmp_path, *BY_NAME)
    assert run.outcomes["foreign.both_layouts"] == "skipped"
    assert "foreign.both_layouts: not exercised: nothing says how a record is put there" in run.printed


def test_a_command_that_fails_is_told(tmp_path: Path):
    run = pytest_run(tmp_path, *BY_NAME, "--put-record", "exit 3")
    assert "the command of --put-record failed with status 3" in run.printed
