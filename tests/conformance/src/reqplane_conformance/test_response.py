"""What `pytest --pyargs reqplane_conformance --transport NAME` runs for a response plane."""

from reqplane_conformance.response.suite import ResponseTransportConformance


class TestResponseTransport(ResponseTransportConformance):
    """Of the plane that --transport names."""
