"""Whether the yours plane is right: `pytest`."""

from reqplane_conformance import RequestTransportConformance
from reqplane_yours import YoursTransport


class TestYours(RequestTransportConformance):
    transport = YoursTransport
