"""The guide's processes: on one etcd and one NATS server, and on a machine of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from servers import Etcd, Nats

from .places import Frontend, Place, Running, own_network, served


@dataclass(frozen=True)
class Fleet:
    """Two workers of one endpoint and a frontend, on one plane."""

    place: Place
    plane: str
    path: str
    workers: list[Running]
    frontend: Frontend

    @property
    def pids(self) -> set[int]:
        return {worker.pid for worker in self.workers}

    def ask(self, request: Any = None, /, **ask: Any) -> Any:
        return self.frontend.ask(self.path, request, **ask)


def fleet(place: Place, plane: str, path: str, workers: int = 2, **env: str) -> Fleet:
    """The first worker is there when this returns; `started` waits for the others.

    Workers that register at the same moment may get other numbers than the lowest two.
    """
    env = {"DYN_REQUEST_PLANE": plane, **env} if plane else env
    frontend = place.frontend(**env)
    first = place.worker(path, **env)
    served(first)
    others = [place.worker(path, **env) for _ in range(workers - 1)]
    return Fleet(place, plane, path, [first, *others], frontend)


def started(fleet: Fleet) -> Fleet:
    served(*fleet.workers)
    return fleet


@pytest.fixture(scope="session")
def wanted() -> Callable[..., None]:
    """Skips where a program is missing."""

    def wanted(*programs: str) -> None:
        for program in programs:
            if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
                pytest.skip(f"{program} is not installed")

    return wanted


@pytest.fixture(scope="session")
def variables(nats: Nats, etcd: Etcd) -> dict[str, str]:
    """Where the two servers are; everything else listens on loopback and on free ports."""
    return {
        "ETCD_ENDPOINTS": etcd.url,
        "NATS_SERVER": nats.url,
        "DYN_HTTP_RPC_HOST": "127.0.0.1",
        "DYN_HTTP_RPC_PORT": "0",
        "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
        "DYN_TCP_RESPONSE_STREAM_PORT": "0",
    }


@pytest.fixture
def here(tmp_path: Path, variables: Mapping[str, str]) -> Iterator[Place]:
    """Processes of one test."""
    place = Place(tmp_path, variables)
    yield place
    place.close()


@pytest.fixture(scope="session")
def fleets(
    tmp_path_factory: pytest.TempPathFactory, variables: Mapping[str, str]
) -> Iterator[dict[str, Fleet]]:
    """The same on each plane.  No test may do them harm."""
    place = Place(tmp_path_factory.mktemp("fleets"), variables)
    fleets = {plane: fleet(place, plane, f"{plane}.backend.generate") for plane in ("http", "nats")}
    try:
        yield {plane: started(one) for plane, one in fleets.items()}
    finally:
        place.close()


@pytest.fixture(params=["http", "nats"])
def each(request: pytest.FixtureRequest, fleets: dict[str, Fleet]) -> Fleet:
    """One of them after the other."""
    return fleets[request.param]


# ── a machine of their own: nothing is set, and the guide's ports are free ──────────────────────────


@pytest.fixture(scope="session")
def machines(wanted: Callable[..., None]) -> Iterator[Callable[..., tuple[str, ...]]]:
    """Makes a network of its own, with lines for its /etc/hosts; what starts a process in it."""
    with ExitStack() as stack:

        def make(name: str, *hosts: str) -> tuple[str, ...]:
            wanted("ip", "lsof", "curl")
            if os.geteuid() != 0:
                pytest.skip("a network of one's own takes root")
            try:
                return stack.enter_context(own_network(f"{name}-{os.getpid()}", hosts))
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"there can't be a network of one's own: {getattr(error, 'stderr', error)}")

        yield make


@pytest.fixture(scope="session")
def machine(
    tmp_path_factory: pytest.TempPathFactory, machines: Callable[..., tuple[str, ...]]
) -> Iterator[Place]:
    """With etcd and nats-server as they come, started as the guide says."""
    folder = tmp_path_factory.mktemp("machine")
    place = Place(folder, {}, machines("guide", "127.0.0.8 backend"))
    try:
        servers = place.start(f"etcd --data-dir {folder}/etcd"), place.start("nats-server -m 8222")
        servers[0].says("ready to serve client requests")
        servers[1].says("Server is ready")
        yield place
    finally:
        place.close()


@pytest.fixture(scope="session")
def over_http(machine: Place) -> Fleet:
    """`export DYN_REQUEST_PLANE=http`, and nothing else: one worker on the guide's port."""
    return started(fleet(machine, "http", "default.backend.generate", workers=1))


@pytest.fixture(scope="session")
def over_nats(machine: Place) -> Fleet:
    """Nothing is set at all."""
    return started(fleet(machine, "", "default.other.generate", workers=1))
