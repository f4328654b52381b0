"""What `pytest --pyargs reqplane_conformance --discovery NAME` runs for a discovery backend."""

from reqplane_conformance.discovery.suite import DiscoveryConformance


class TestDiscovery(DiscoveryConformance):
    """Of the backend that --discovery names."""
