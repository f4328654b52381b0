"""What `pytest --pyargs reqplane_conformance --transport NAME` runs for a request plane."""

from reqplane_conformance.request.suite import RequestTransportConformance


class TestRequestTransport(RequestTransportConformance):
    """Of the plane that --transport names."""
