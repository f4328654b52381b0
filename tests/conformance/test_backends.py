"""Our own discovery backends conform."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from reqplane.discovery.etcd.backend import EtcdDiscovery
from reqplane.discovery.file import FileDiscovery
from reqplane.discovery.memory import MemoryDiscovery
from reqplane.discovery.static import StaticDiscovery
from reqplane.wire.records import PREFIX
from reqplane_conformance import DiscoveryConformance
from reqplane_conformance.discovery.stage import DiscoveryStage
from servers import Etcd


class TestFile(DiscoveryConformance):
    discovery = FileDiscovery

    async def put(self, stage: DiscoveryStage, key: str, value: str) -> None:
        folder = Path(stage.variables()["DYN_FILE_KV"], PREFIX)
        file = folder / quote(key.removeprefix(PREFIX), safe="")
        if value:
            file.write_text(value)
        else:
            file.unlink()


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


class TestEtcd(DiscoveryConformance):
    discovery = EtcdDiscovery

    @pytest.fixture(autouse=True)
    def _etcd(self, server: Etcd) -> None:
        self.env = {"ETCD_ENDPOINTS": server.url}
        self.server = server

    async def put(self, stage: DiscoveryStage, key: str, value: str) -> None:
        self.server.ctl(*(("put", key, "--", value) if value else ("del", key)))

    async def restart_peer(self, stage: DiscoveryStage) -> None:
        self.server.kill()
        self.server.start()
