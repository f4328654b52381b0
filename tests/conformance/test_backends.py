"""Our own discovery backends conform."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from reqplane.discovery.etcd.backend import EtcdDiscovery
from reqplane.discovery.file import FileDiscovery
from reqplane.discovery.memory import MemoryDiscovery
from reqplane.discovery.static import StaticDiscovery
from reqplane_conformance import DiscoveryConformance
from servers import Etcd

from .stores import EtcdStore, FileStore


class TestFile(FileStore, DiscoveryConformance):
    discovery = FileDiscovery


class TestMemory(DiscoveryConformance):
    discovery = MemoryDiscovery


class TestStatic(DiscoveryConformance):
    discovery = StaticDiscovery


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One for all cases: each has a namespace of its own, and what kills it starts it again."""
    server = Etcd(tmp_path_factory.mktemp("etcd")).start()
    yield server
    server.close()


class TestEtcd(EtcdStore, DiscoveryConformance):
    discovery = EtcdDiscovery

    @pytest.fixture(autouse=True)
    def _etcd(self, server: Etcd) -> None:
        self.env = {"ETCD_ENDPOINTS": server.url}
        self.server = server
