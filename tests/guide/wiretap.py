"""A look at the bytes: between a frontend and an origin, and at what a NATS server hands on."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from contextlib import suppress
from typing import Any, Self

from .places import PATIENCE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Wiretap:
    """Listens on a free port of loopback, and hands on to `target` what comes; `said` is what clients wrote.

    Where `only_http1`, it answers HTTP/2's preface as a server does that has never heard of it.
    """

    def __init__(self, target: int = 0, only_http1: bool = False) -> None:
        self.target = target
        self.said: list[bytearray] = []
        self._only_http1 = only_http1
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                said = bytearray()
                self.said.append(said)
                threading.Thread(target=self._serve, args=(client, said), daemon=True).start()

    def _serve(self, client: socket.socket, said: bytearray) -> None:
        with suppress(OSError):
            said += client.recv(len(PREFACE))
            if self._only_http1 and said.startswith(b"PRI"):
                client.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            self._open.append(server)
            server.sendall(said)
            threading.Thread(target=_pump, args=(server, client, None), daemon=True).start()
            _pump(client, server, said)


def _pump(source: socket.socket, sink: socket.socket, said: bytearray | None) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            if said is not None:
                said += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class _Client:
    """A client of NATS, written by hand."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("nats://").split(":")
        self._socket = socket.create_connection((host, int(port)), PATIENCE)
        self.heard = bytearray()
        self._subscriptions = 0
        self.says('CONNECT {"verbose":false,"headers":true}')

    def says(self, *lines: str) -> None:
        """Returns when the server has taken it."""
        self.heard.clear()
        self._socket.sendall("".join(f"{line}\r\n" for line in (*lines, "PING")).encode())
        self.hears(b"PONG\r\n")

    def subscription(self, subject: str) -> str:
        self._subscriptions += 1
        return f"SUB {subject} {self._subscriptions}"

    def hears(self, what: bytes) -> bytes:
        """Wait until it has heard this."""
        while what not in self.heard:
            more = self._socket.recv(65536)
            assert more, f"NATS ended the connection: {self.heard!r}"
            self.heard += more
        return bytes(self.heard)

    def close(self) -> None:
        self._socket.close()


class Subscriber(_Client):
    """Hears every message to one subject, beside the queue group."""

    def __init__(self, url: str, subject: str) -> None:
        super().__init__(url)
        self.says(self.subscription(subject))


class Requester(_Client):
    """Asks services, as the `nats` tool does."""

    def ask(self, subject: str, answers: int) -> list[Any]:
        """So many answers, each a JSON object."""
        self.says(self.subscription(f"inbox.{subject}"), f"PUB {subject} inbox.{subject} 0\r\n")
        while len(found := re.findall(rb"^\{.*\}(?=\r$)", self.heard, re.MULTILINE)) < answers:
            self.heard += self._socket.recv(65536)
        return [json.loads(one) for one in found]


def make_frame(header: Any, body: bytes) -> bytes:
    """The two-part frame, written by hand."""
    head = json.dumps(header).encode()
    return struct.pack(">QQQ", len(head), len(body), 0) + head + body


def find_frame(said: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the body of the first two-part frame in these bytes."""
    start = re.search(rb'\{"id":', said)
    assert start, f"no frame in {said[:2000]!r}"
    head_size, body_size, checksum = struct.unpack(">QQQ", said[start.start() - 24 : start.start()])
    assert checksum == 0
    end = start.start() + head_size
    return json.loads(said[start.start() : end]), bytes(said[end : end + body_size])
