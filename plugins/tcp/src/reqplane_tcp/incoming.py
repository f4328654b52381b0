"""A worker's connection: requests in, answers out, in the same order.

The answers to what one read brought go out in one piece.  While the frontend does not read its answers,
nothing more is read from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol, cast

from reqplane.errors import InvalidFrame, RequestRefused, UnknownEndpoint, WireError, WorkerBusy
from reqplane.interfaces import Accept, Delivery, Host, Timer
from reqplane.model import Body, Headers, Peer
from reqplane.sockets import host_and_port
from reqplane.wire.trace import carried

from reqplane_tcp.answers import GOODBYE, refused, words_of
from reqplane_tcp.chunk import Chunk
from reqplane_tcp.cutter import Cutter
from reqplane_tcp.wire import ACK, answer, read_headers

FRAME_SECONDS = 30.0
"""What a request may take from its first byte to its last, and an answer to be read; at least half of it."""
IDLE_SECONDS = 600.0
"""Without a byte.  Frontends close idle connections before: ours and Dynamo's after 300 s."""
_LOOKS = FRAME_SECONDS / 2
_FRONTENDS_PATH = b'"x-endpoint-path"'
_FRONTENDS_CLOCK = b'"x-frontend-send-ts-ns"'
_NOTHING: Headers = {}


class Owner(Protocol):
    """The server."""

    @property
    def accepts(self) -> Mapping[bytes, Accept]:
        """By path."""
        ...

    @property
    def chunk(self) -> Chunk: ...

    def proven(self, connection: Incoming) -> None:
        """It has something to say: a request on it was accepted, or it is heard of again."""
        ...

    def lost(self, connection: Incoming) -> None:
        """It is over."""
        ...


class _Enough(Exception):
    """Nothing more on this connection is looked at."""


class Incoming(asyncio.BufferedProtocol):
    """From its accept to its end."""

    def __init__(self, owner: Owner, host: Host) -> None:
        self._owner = owner
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._limit = host.limits.max_frame_bytes
        self._cutter = Cutter(owner.chunk, host.inflight, self)
        self._transport: asyncio.Transport | None = None
        self._peer: Peer | None = None
        self._out: list[bytes] = []
        self._refusal: RequestRefused = InvalidFrame("")  # of the payload that is passed over
        self._encoded = b""  # headers that were read, and what they are
        self._headers = _NOTHING
        self._known = False  # what the frontend is: its first request's head has come
        self._hears = True  # it hears refusals, and not only that the connection ends
        self._proven = False  # a request was accepted
        self._parting = False  # it ends as soon as the frontend is known
        self._leaving = False
        self._timer: Timer | None = None
        self._heard = False  # since the last look
        self._taken = 0  # requests
        self._silent = 0.0
        self._last_look = (0, False)
        self.written: asyncio.Future[None] | None = None
        """While answers wait for the frontend to read: done when it has."""
        self.ended: asyncio.Future[None] = self._loop.create_future()

    # ── the connection ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        if self._leaving:  # given up before it stood
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(0)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self._peer = Peer(host_and_port(*cast("tuple[str, int]", address[:2])))
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._cutter.close()
        self.resume_writing()
        self._owner.lost(self)
        self.ended.set_result(None)

    def pause_writing(self) -> None:
        assert self._transport is not None
        self.written = self._loop.create_future()
        if not self._leaving:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self.written is not None:
            self.written.set_result(None)
            self.written = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def leave(self) -> None:
        """Answer what was accepted, look at nothing more, and close as soon as the frontend does.

        Who hears goodbye knows that nothing else was accepted; an old frontend would take it for an ack.
        """
        if not self._known:
            self._parting = True
            return
        self._cutter.close()
        self._end(GOODBYE if self._hears else b"")

    def cut(self) -> None:
        """Close at once."""
        self._leaving = True
        if self._transport is not None:
            self._transport.abort()

    def _end(self, last: bytes) -> None:
        """Closing both directions would throw away what is on its way out, if something unread has come."""
        if self._leaving:
            return
        self._leaving = True
        if self._transport is None or self._transport.is_closing():
            return
        if last:
            self._out.append(answer(last))
        self._flush()
        with suppress(OSError):  # the frontend has reset it, which we have not read yet
            self._transport.write_eof()
        self._transport.resume_reading()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    # ── bytes ──

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._owner.chunk.window() if self._leaving else self._cutter.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self._leaving:
            return
        self._heard = True
        try:
            self._cutter.filled(nbytes)
        except WireError as error:
            self._give_up("invalid_frame", error.problem)
        except _Enough:
            self._cutter.close()
            self._end(GOODBYE if self._parting and self._hears else b"")
        if self._out:
            self._flush()

    def _give_up(self, code: str, words: str) -> None:
        """What comes can't be told apart any more, or is not worth waiting for."""
        self._cutter.close()
        if self._hears:
            self._out.append(refused(code, words))
        self._end(b"")

    # ── requests ──

    def wants(self, path: bytes, headers: bytes, size: int) -> bool:
        if not self._known:
            self._meet(headers)
        if size > 2 * self._limit:
            raise WireError(self._too_large(size))
        if size > self._limit:
            self._refusal = InvalidFrame(self._too_large(size))
        elif path in self._owner.accepts:
            return True
        else:
            self._refusal = _unknown(path)
        return False

    def no_room(self) -> None:
        self._refusal = WorkerBusy("it holds as many bytes of requests as DYN_MAX_INFLIGHT_BYTES allows")

    def take(self, path: bytes, headers: bytes, size: int, payload: Body | None) -> None:
        """A request: accept it, then ack it."""
        if not self._known:
            self._meet(headers)
        self._taken += 1
        try:
            accept = self._owner.accepts.get(path)
            if headers != self._encoded:
                self._read_headers(headers)
            if accept is None:
                raise _unknown(path)
            if size > self._limit:
                raise InvalidFrame(self._too_large(size))
            if payload is None:
                raise self._refusal
            accept(Delivery(payload, self._headers, "tcp", self._peer))
        except RequestRefused as error:
            self._refuse(error.code, words_of(error))
        except (Exception, asyncio.CancelledError):  # nobody awaits here, so nobody cancels either
            self._host.log.exception("accepting a request for %r failed", path)
            self._refuse("refused", "the worker could not take the request; its log has the reason")
        else:
            self._out.append(ACK)
            if not self._proven:
                self._proven = True
                self._owner.proven(self)

    def _read_headers(self, encoded: bytes) -> None:
        """Headers that are not those of the request before."""
        self._encoded, self._headers = b"", _NOTHING
        try:
            self._headers = carried(read_headers(encoded))
        except WireError as error:
            raise InvalidFrame(error.problem) from None
        self._encoded = encoded

    def _meet(self, encoded: bytes) -> None:
        """Learn from its first request's headers what the frontend is.

        Dynamo up to 0.9 takes each answer for an ack, whatever it says.  0.7 sends no headers, and 0.9 none
        but the path; newer ones tell the time, too.
        """
        self._known = True
        self._hears = bool(encoded) and (_FRONTENDS_PATH not in encoded or _FRONTENDS_CLOCK in encoded)
        if self._parting:
            raise _Enough

    def _refuse(self, code: str, words: str) -> None:
        """Say no; to who does not hear that, by the connection's end: what was answered before stays so."""
        if not self._hears:
            raise _Enough
        self._out.append(refused(code, words))

    def _too_large(self, size: int) -> str:
        return f"the frame has {size} bytes, at most {self._limit} are allowed here (DYN_MAX_FRAME_BYTES)"

    # ── time ──

    def _look_later(self) -> None:
        self._timer = self._host.timers.at(self._loop.time() + _LOOKS, self._look)

    def _look(self) -> None:
        """Cut off who does not come to the end of a request, does not read, or says nothing for long."""
        if self._leaving or self._parting:
            self.cut()
            return
        if self._heard and self._proven:
            self._owner.proven(self)
        stuck = self._cutter.pending or self.written is not None
        before, was_stuck = self._last_look
        self._last_look = self._taken, stuck
        self._silent = 0.0 if self._heard else self._silent + _LOOKS
        self._heard = False
        self._look_later()
        if self.written is not None and was_stuck and before == self._taken:
            self.cut()
        elif stuck and was_stuck and before == self._taken:
            self._give_up("refused", f"the request did not come whole within {FRAME_SECONDS:g} s")
        elif self._silent >= IDLE_SECONDS:
            self.leave()


def _unknown(path: bytes) -> UnknownEndpoint:
    """In Dynamo's words."""
    return UnknownEndpoint(f"unknown endpoint {path.decode('utf-8', 'replace')}")
