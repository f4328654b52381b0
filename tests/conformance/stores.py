"""How others write into the stores of our discovery backends."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from reqplane.wire.records import PREFIX
from reqplane_conformance.discovery.stage import DiscoveryStage
from servers import Etcd


class FileStore:
    """The folder of the file backend."""

    async def put(self, stage: DiscoveryStage, key: str, value: str) -> None:
        folder = Path(stage.variables()["DYN_FILE_KV"], PREFIX)
        file = folder / quote(key.removeprefix(PREFIX), safe="")
        if value:
            file.write_text(value)
        else:
            file.unlink()


class EtcdStore:
    """An etcd that the test has to itself."""

    server: Etcd

    async def put(self, stage: DiscoveryStage, key: str, value: str) -> None:
        self.server.ctl(*(("put", key, "--", value) if value else ("del", key)))

    async def restart_peer(self, stage: DiscoveryStage) -> None:
        self.server.kill()
        self.server.start()
