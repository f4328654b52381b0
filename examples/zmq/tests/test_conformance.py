"""Whether the zmq plane is right: `pytest`."""

from reqplane_conformance import RequestTransportConformance
from reqplane_zmq import ZmqTransport


class TestZmq(RequestTransportConformance):
    transport = ZmqTransport
