"""The backends of one process conform; the others are tried from wheels, in tests/system."""

from __future__ import annotations

from reqplane.discovery.memory import MemoryDiscovery
from reqplane.discovery.static import StaticDiscovery
from reqplane_conformance import DiscoveryConformance


class TestMemory(DiscoveryConformance):
    discovery = MemoryDiscovery


class TestStatic(DiscoveryConformance):
    discovery = StaticDiscovery
