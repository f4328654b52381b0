"""Subjects: the secrets by which workers claim the streams that are waited for, each once."""

from __future__ import annotations

import asyncio
import os

from reqplane.interfaces import Host
from reqplane.model import ConnectionInfo, SharedOffer
from reqplane.wire.shared import SUBJECT_BYTES

from reqplane_tcp_stream.outgoing import SendingTcpStream
from reqplane_tcp_stream.pending import PendingTcpStream


class Subjects:
    """The streams that are waited for."""

    def __init__(self, host: Host) -> None:
        limits = host.limits
        self.host = host
        self.window = limits.stream_window_bytes
        self.offer: SharedOffer | None = SharedOffer(
            host.process, self.window, max_frame=limits.max_frame_bytes
        )
        self.address = ""
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, PendingTcpStream] = {}
        self._requests: dict[bytes, SendingTcpStream] = {}
        self._random = b""
        self._random_at = 0

    def expect(self, request_id: str) -> PendingTcpStream:
        """Reserve a subject for one attempt."""
        key = self._draw()
        info = ConnectionInfo(self.address, _subject(key), request_id, self.offer)
        stream = self._waiting[key] = PendingTcpStream(self, key, info, self._loop)
        return stream

    def expect_sending(self, request_id: str) -> SendingTcpStream:
        """Reserve two: one for the answer and one for the request, which is a stream too."""
        key, request_key = self._draw(), self._draw()
        request = ConnectionInfo(self.address, _subject(request_key), request_id)
        info = ConnectionInfo(self.address, _subject(key), request_id, self.offer, request)
        stream = SendingTcpStream(self, key, request_key, info, self._loop)
        self._waiting[key] = self._requests[request_key] = stream
        return stream

    def claim(self, key: bytes) -> PendingTcpStream | None:
        """Give the stream out, once."""
        return self._waiting.pop(key, None)

    def claim_request(self, key: bytes) -> SendingTcpStream | None:
        """Give the stream out whose request a worker wants, once."""
        return self._requests.pop(key, None)

    def forget(self, key: bytes) -> None:
        self._waiting.pop(key, None)

    def forget_request(self, key: bytes) -> None:
        self._requests.pop(key, None)

    def close(self) -> None:
        for stream in list(self._waiting.values()):
            stream.close()

    def _draw(self) -> bytes:
        """A random uuid (version 4), from a stock of random bytes: one system call for 256 of them."""
        if self._random_at >= len(self._random):
            self._random, self._random_at = os.urandom(16 * 256), 0
        raw = bytearray(self._random[self._random_at : self._random_at + 16])
        self._random_at += 16
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        return bytes(raw)


def _subject(key: bytes) -> str:
    text = key.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def subject_key(subject: str) -> bytes | None:
    """A subject's 16 bytes; None if it is not a uuid."""
    try:
        key = bytes.fromhex(subject.replace("-", ""))
    except ValueError:
        return None
    return key if len(key) == SUBJECT_BYTES else None
