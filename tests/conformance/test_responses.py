"""Our response plane conforms, and the one in memory."""

from __future__ import annotations

from reqplane_conformance import ResponseTransportConformance
from reqplane_conformance.memory.responding import InMemory
from reqplane_conformance.memory.responses import MemoryResponses


class TestMemory(InMemory, ResponseTransportConformance):
    transport = MemoryResponses
