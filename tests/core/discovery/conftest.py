"""Opened backends and watchers, which are closed in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from core.discovery.world import FakeHost, Opener, Seen, Watcher, our_threads
from reqplane.discovery.etcd.backend import EtcdDiscovery
from reqplane.discovery.file import FileDiscovery
from reqplane.discovery.memory import MemoryDiscovery
from reqplane.interfaces import Discovery
from reqplane.model import EndpointId
from servers import Etcd

BACKENDS: dict[str, type[Discovery]] = {"etcd": EtcdDiscovery, "file": FileDiscovery, "mem": MemoryDiscovery}


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def quiet_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """An etcd for the tests of backends alone: some look at all that it holds."""
    server = Etcd(tmp_path_factory.mktemp("etcd")).start()
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kv"


@pytest_asyncio.fixture
async def opened(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    """Open backends; all are closed in the end, and then no thread may be left."""
    everything: list[Discovery] = []

    async def opener(backend: str = "file", **env: str) -> Discovery:
        if backend == "etcd" and "ETCD_ENDPOINTS" not in env:
            env["ETCD_ENDPOINTS"] = request.getfixturevalue("quiet_etcd").url
        host = FakeHost({"DYN_FILE_KV": str(folder), **env}, env.get("DYN_WIRE_PROFILE") == "dynamo")
        discovery = await BACKENDS[backend].open(host)
        everything.append(discovery)
        return discovery

    yield opener
    for discovery in everything:
        await discovery.aclose()
    assert our_threads() == []


@pytest_asyncio.fixture
async def watching(opened: Opener) -> AsyncIterator[Watcher]:
    """Watch; the listing has been told when this returns."""
    everything: list[Seen] = []

    async def watcher(discovery: Discovery, endpoint: EndpointId | None = None) -> Seen:
        seen = Seen(discovery.watch(endpoint))
        everything.append(seen)
        await seen.listed()
        return seen

    yield watcher
    for seen in everything:
        await seen.close()
