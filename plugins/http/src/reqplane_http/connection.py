"""One HTTP/2 connection to a worker: many POSTs at once, bytes in and out.

Nothing here waits.  `submit` puts a request on the wire as far as the peer's windows allow and keeps the
rest; `data_received` settles exchanges and sends more.  What one turn of the loop writes goes out in one
piece, except that the first request of an idle connection goes at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, cast

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError

from reqplane_http.engine import Engine, Greeting
from reqplane_http.exchange import Exchange
from reqplane_http.sending import Bodies

_STREAMS_BEFORE_SETTINGS = 100  # what RFC 9113 recommends a peer to allow at least
_NEVER_PROCESSED = frozenset({ErrorCodes.REFUSED_STREAM, ErrorCodes.HTTP_1_1_REQUIRED})


class Connection(asyncio.Protocol):
    """Carries exchanges.  `retired` is called once, when it takes no more, with those it did not start."""

    def __init__(self, address: str, retired: Callable[[Connection, list[Exchange]], None]) -> None:
        self._address = address
        self._retired = retired
        self._loop = asyncio.get_running_loop()
        self._engine = Engine()
        self._transport: asyncio.Transport | None = None
        self._open: dict[int, Exchange] = {}
        self._queued: deque[Exchange] = deque()  # waiting for a stream
        self._bodies = Bodies(self._engine, self._write)
        self._most_streams = _STREAMS_BEFORE_SETTINGS
        self._greeting = Greeting()
        self._flushing = False
        self._written = 0  # the highest stream whose HEADERS were handed to the transport
        self.usable = False
        self.heard = False  # something came since the watch last looked
        self.last_used = self._loop.time()
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # ── requests ──

    @property
    def busy(self) -> bool:
        return bool(self._open or self._queued)

    def submit(self, exchange: Exchange) -> None:
        """Take on a request; only while `usable`."""
        exchange.connection = self
        self.last_used = self._loop.time()
        if self._queued or len(self._open) >= self._most_streams:
            self._queued.append(exchange)  # in turn, also when a stream has become free just now
            return
        idle = not self._open
        self._start(exchange)
        if idle:
            self._flush()
        else:
            self._flush_soon()

    def abandon(self, exchange: Exchange) -> None:
        """Nobody waits for this one any more."""
        if self._open.get(exchange.stream) is exchange:
            self._end(exchange, ErrorCodes.CANCEL)
            self._flush_soon()

    def ping(self) -> None:
        self._engine.ping(b"reqplane")
        self._flush()

    def _start(self, exchange: Exchange) -> None:
        stream = self._engine.get_next_available_stream_id()
        exchange.stream = stream
        self._open[stream] = exchange
        self._engine.post(stream, exchange.method, exchange.block, ends=not exchange.left)
        if exchange.left:
            self._bodies.begin(exchange)
        if stream + 2 > self._engine.HIGHEST_ALLOWED_STREAM_ID:
            self._retire()

    def _start_queued(self) -> None:
        while self._queued and self.usable and len(self._open) < self._most_streams:
            exchange = self._queued.popleft()
            if not exchange.done():
                self._start(exchange)

    def _end(self, exchange: Exchange, reset: ErrorCodes | None = None) -> None:
        """Give up the exchange's stream, by a reset if the peer still knows it."""
        stream = exchange.stream
        del self._open[stream]
        if reset is not None:
            with contextlib.suppress(ProtocolError):
                self._engine.reset_stream(stream, reset)
        exchange.release()
        self._engine.forget(stream)
        if self._queued:
            self._flush_soon()
        if not self.usable and not self._open:
            self._close_soon()

    # ── the wire ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._engine.initiate_connection()
        self.usable = True
        # The preface waits for the first request, which is about to be submitted.

    def data_received(self, data: bytes) -> None:
        self.heard = True
        if not self._greeting.over and not self._greeting.feed(data):
            why = f"it does not speak HTTP/2, it answered {self._greeting.line!r}"
            self._fail(why, processed=False)
            return
        try:
            events = self._engine.receive_data(data)
        except ProtocolError as error:
            self._fail(f"{self._address} broke the rules of HTTP/2: {error}")
            return
        for event in events:
            handle = self._handlers.get(type(event))
            if handle is not None:
                handle(self, event)
        self._bodies.go_on()
        self._flush()

    def pause_writing(self) -> None:
        self._bodies.paused = True

    def resume_writing(self) -> None:
        self._bodies.paused = False
        self._bodies.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        why = f"the connection to {self._address} was lost"
        self._drop_all(f"{why}: {exc}" if exc else f"{why}: the worker closed it")
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self, why: str) -> None:
        """End it now; what is under way fails."""
        self._drop_all(why)
        if self._transport is not None and not self._transport.is_closing():
            self._engine.close_connection()
            self._flush()
            self._close_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Use the streams that have become free, and write what there is to write."""
        self._flushing = False
        if self._queued:
            self._start_queued()
        self._write()

    def _write(self) -> None:
        data = self._engine.data_to_send()
        transport = self._transport
        if data and transport is not None and not transport.is_closing():
            transport.write(data)
            self._written = self._engine.highest_outbound_stream_id

    def _close_soon(self) -> None:
        """Close the socket, at once if the peer does not read what is left to send."""
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size():
            transport.abort()
        else:
            transport.close()

    def _fail(self, why: str, *, processed: bool = True) -> None:
        self._drop_all(why, processed=processed)
        self._flush()
        self._close_soon()

    def _retire(self) -> None:
        """Take no more requests; those under way go on, those in the queue go elsewhere."""
        if self.usable:
            self.usable = False
            queued = [exchange for exchange in self._queued if not exchange.done()]
            self._queued.clear()
            self._retired(self, queued)

    def _drop_all(self, why: str, *, processed: bool = True) -> None:
        under_way = list(self._open.values()) + list(self._queued)
        self._open.clear()
        self._queued.clear()
        self._bodies.clear()
        self._retire()
        for exchange in under_way:
            exchange.lost(why, written=processed and exchange.stream <= self._written)

    # ── events ──

    def _on_response(self, event: Any) -> None:
        exchange = self._open.get(event.stream_id)
        if exchange is None:
            return
        headers = cast("list[tuple[bytes, bytes]]", event.headers)
        status = next((value for name, value in headers if name == b":status"), b"0")
        exchange.status = int(status) if status.isdigit() else 0
        exchange.headers = headers
        if exchange.early and exchange.status == 202 and not exchange.left and not exchange.done():
            exchange.settle()

    def _on_data(self, event: Any) -> None:
        if event.flow_controlled_length:
            self._engine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        exchange = self._open.get(event.stream_id)
        if exchange is None or exchange.done() or not event.data:
            return
        exchange.body += event.data
        if exchange.keep is not None and len(exchange.body) >= exchange.keep:
            exchange.settle()
            self._end(exchange, ErrorCodes.CANCEL)

    def _on_end(self, event: Any) -> None:
        exchange = self._open.get(event.stream_id)
        if exchange is None:
            return
        if not exchange.done():
            exchange.settle()
        self._end(exchange, ErrorCodes.CANCEL if exchange.left else None)

    def _on_reset(self, event: Any) -> None:
        exchange = self._open.get(event.stream_id)
        if exchange is None:
            return
        self._end(exchange)
        code = event.error_code
        name = code.name if isinstance(code, ErrorCodes) else str(code)
        why = f"{self._address} reset the stream ({name})"
        exchange.lost(why, written=code not in _NEVER_PROCESSED)

    def _on_settings(self, event: Any) -> None:
        # Without the setting the number is unbounded; h2 then says 2**32 + 1.
        self._most_streams = self._engine.remote_settings.max_concurrent_streams

    def _on_goaway(self, event: Any) -> None:
        self._retire()
        last = event.last_stream_id
        for exchange in [other for stream, other in self._open.items() if stream > last]:
            self._end(exchange)
            exchange.unreachable(f"{self._address} is going away and did not take the request")
        if not self._open:
            self._close_soon()

    # Windows are looked at after all events, and that a PING was answered is noticed as any bytes are.
    _handlers: ClassVar[dict[type[Event], Callable[[Connection, Any], None]]] = {
        ResponseReceived: _on_response,
        DataReceived: _on_data,
        StreamEnded: _on_end,
        StreamReset: _on_reset,
        RemoteSettingsChanged: _on_settings,
        ConnectionTerminated: _on_goaway,
    }
