"""Where the processes of a program meet."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from servers import Etcd, Nats


@contextmanager
def place(version: str, folder: Path) -> Generator[Mapping[str, str]]:
    """Variables for Dynamo of this version, and the servers that they name: before 1.0 it needs both."""
    if version.startswith("1."):
        yield {}
        return
    with ExitStack() as stack:
        etcd = Etcd(folder / "etcd")
        nats = Nats(folder / "nats", config=f"jetstream: {{store_dir: {folder}/jetstream}}\n")
        for server in (etcd, nats):
            stack.callback(server.close)
            server.start()
        yield {"DYN_DISCOVERY_BACKEND": "etcd", "ETCD_ENDPOINTS": etcd.url, "NATS_SERVER": nats.url}
