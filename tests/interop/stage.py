"""Where the processes of both sides meet: one request plane, one discovery, and nobody else there."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from interop.peer import Peer
from ports import free_port
from servers import Etcd, Nats

PEERS = Path(__file__).parent / "peers"
Side = Literal["dynamo", "reqplane"]


@dataclass(frozen=True)
class Place:
    """A version of Dynamo, one of its request planes, and one of its discovery backends."""

    version: str
    plane: str
    discovery: str

    def __str__(self) -> str:
        return f"{self.version} {self.plane}+{self.discovery}"


@dataclass(frozen=True)
class Servers:
    """What planes and discovery backends need, for as many places as there are."""

    nats: Nats
    etcd: Etcd

    @classmethod
    def start(cls, folder: Path, stack: ExitStack) -> Self:
        """Both, until the stack is closed."""
        # Rows send 1 MiB and its envelope; Dynamo before 1.0 wants JetStream.
        nats = Nats(
            folder / "nats", config=f"max_payload: 8MB\njetstream: {{store_dir: {folder}/jetstream}}\n"
        )
        etcd = Etcd(folder / "etcd")
        for server in (nats, etcd):
            stack.callback(server.close)
            server.start()
        return cls(nats, etcd)


class Stage:
    """One place, and the processes that are there until it closes."""

    def __init__(self, place: Place, dynamo: Path, servers: Servers | None, folder: Path) -> None:
        self.place = place
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)  # an earlier run's workers would be found
        folder.mkdir(parents=True)
        self._dynamo = dynamo
        self._servers = servers
        self._count = itertools.count()
        self.started: list[Peer] = []

    def worker(self, side: Side, path: str) -> Peer:
        """A worker, named in all items that it sends; it knows by now who it is, not yet who calls."""
        return self._start(side, "worker", [path])

    def relay(self, side: Side, path: str, onward: str) -> Peer:
        """A worker that calls another endpoint within a request; it logs what it knows of that."""
        return self._start(side, "worker", [path, onward], DYN_LOG="debug")

    def client(self, side: Side) -> Peer:
        return self._start(side, "client", [])

    def _start(self, side: Side, role: str, arguments: Sequence[str], **more: str) -> Peer:
        program = f"{'dynamo' if side == 'dynamo' else 'our'}_{role}"
        name = f"{program}_{next(self._count)}"
        python = self._dynamo if side == "dynamo" else Path(sys.executable)
        env = self._environment(side) | {"INTEROP_WORKER": name} | more
        if side == "reqplane" and role == "worker":  # our clients read Dynamo's records as they are
            env["DYN_WIRE_PROFILE"] = "dynamo"
        peer = Peer([python, PEERS / f"{program}.py", *arguments], env, self.folder / f"{name}.log")
        self.started.append(peer)
        peer.started()
        return peer

    def _environment(self, side: Side) -> dict[str, str]:
        """What both sides are told, and what only one understands; nothing is inherited."""
        place = self.place
        env = {
            name: value
            for name, value in os.environ.items()
            if not re.match("DYN_|NATS_|ETCD_|PYTHON|OTEL_|RUST_", name)
        }
        env |= {
            "DYN_REQUEST_PLANE": place.plane,
            "DYN_DISCOVERY_BACKEND": place.discovery,
            "DYN_FILE_KV": str(self.folder / "discovery"),
            "DYN_HTTP_RPC_HOST": "127.0.0.1",
            "DYN_HTTP_RPC_PORT": str(free_port()),  # Dynamo takes 0 at its word
            "DYN_TCP_RPC_HOST": "127.0.0.1",
            "DYN_TCP_RPC_PORT": str(free_port()),
            "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
        }
        env |= self._addresses()
        if side == "reqplane":
            env |= {"DYN_TCP_RESPONSE_STREAM_PORT": "0"}
        else:
            env |= {"DYN_LOGGING_JSONL": "1"}  # without it Dynamo's contexts know of no trace
        return env

    def _addresses(self) -> Mapping[str, str]:
        """Servers only where they are used: Dynamo waits long for one that it is told of."""
        found: dict[str, str] = {}
        if self._servers is not None:
            if self.place.discovery == "etcd":
                found["ETCD_ENDPOINTS"] = self._servers.etcd.url
            if self.place.plane == "nats" or self.place.version.startswith("0.7."):  # which wants it always
                found["NATS_SERVER"] = self._servers.nats.url
        return found

    def close(self) -> None:
        for peer in self.started:
            peer.close()
