"""One HTTP/2 connection to a worker: many POSTs at once, bytes in and out.

Nothing here waits.  `submit` puts a request on the wire as far as the peer's windows allow and keeps the
rest; `data_received` settles exchanges and sends more.  A request that the peer has surely not processed
is handed back to the owner, which sends it by another connection (RFC 9113, 8.7).  What one turn of the
loop writes goes out in one piece, except that the first request of an idle connection goes at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, cast

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

STREAMS_BEFORE_SETTINGS = 100  # what RFC 9113 recommends a peer to allow at least


class Owner(Protocol):
    """Whom a connection tells what becomes of it."""

    def retired(self, connection: Connection) -> None:
        """It takes no more requests.  Called once."""
        ...

    def again(self, exchange: Exchange, why: str, *, fruitless: bool = True) -> None:
        """The peer has surely not processed this one; it may be sent once more.

        `fruitless`: nor has it processed any other on this connection, as far as is known.
        """
        ...

    def only_http1(self, exchanges: list[Exchange], why: str) -> None:
        """The peer does not speak HTTP/2, but HTTP/1.1: it has taken none of these."""
        ...

    def freed(self, connection: Connection) -> None:
        """There may be a free stream; called only while the connection is `crowded`."""
        ...


class Connection(asyncio.Protocol):
    """Carries exchanges, as many at once as the peer allows."""

    def __init__(self, address: str, owner: Owner, most_streams: int) -> None:
        self._address = address
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._engine = Engine()
        self._transport: asyncio.Transport | None = None
        self._open: dict[int, Exchange] = {}
        self._bodies = Bodies(self._engine, self._write)
        self.most_streams = most_streams  # a guess, until the peer's settings come
        self._greeting = Greeting()
        self._flushing = False
        self._written = 0  # the highest stream whose HEADERS were handed to the transport
        self.usable = False
        self.crowded = False  # its owner wants to hear of free streams
        self.heard = False  # something came since the watch last looked
        self.last_used = self._loop.time()
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # ── requests ──

    @property
    def busy(self) -> bool:
        return bool(self._open)

    def submit(self, exchange: Exchange) -> bool:
        """Take on a request; False if no stream is free.  Only while `usable`."""
        if len(self._open) >= self.most_streams:
            return False
        exchange.connection = self
        self.last_used = self._loop.time()
        idle = not self._open
        self._start(exchange)
        if idle and not self._flushing:
            self._flush()
        else:
            self._flush_soon()
        return True

    def abandon(self, exchange: Exchange) -> None:
        """Nobody waits for this one any more."""
        if self._open.get(exchange.stream) is exchange:
            self._end(exchange, ErrorCodes.CANCEL)
            self._flush_soon()

    def leave(self) -> None:
        """Take no more requests, and close when those under way have ended."""
        self._retire()
        if not self._open:
            self._close_soon()

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

    def _end(self, exchange: Exchange, reset: ErrorCodes | None = None) -> None:
        """Give up the exchange's stream, by a reset if the peer still knows it."""
        self._free(exchange.stream, reset)
        exchange.release()

    def _send_again(self, exchange: Exchange, why: str, *, fruitless: bool) -> None:
        self._bodies.forget(exchange)
        self._free(exchange.stream)
        self._owner.again(exchange, why, fruitless=fruitless)

    def _free(self, stream: int, reset: ErrorCodes | None = None) -> None:
        del self._open[stream]
        if reset is not None:
            with contextlib.suppress(ProtocolError):
                self._engine.reset_stream(stream, reset)
        self._engine.forget(stream)
        if self.crowded:
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
            self._not_http2()
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
        """Have the streams used that have become free, and write what there is to write."""
        if self.crowded:
            self._flushing = True  # what is submitted meanwhile goes out with the rest
            self._owner.freed(self)
        self._flushing = False
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

    def _fail(self, why: str) -> None:
        self._drop_all(why)
        self._flush()
        self._close_soon()

    def _not_http2(self) -> None:
        """What it answered was our preface: none of the requests was accepted, nor would they be later."""
        under_way = list(self._open.values())
        self._open.clear()
        why = f"it does not speak HTTP/2, it answered {self._greeting.line!r}"
        if self._greeting.is_http1:
            self._owner.only_http1(under_way, why)
        else:
            for exchange in under_way:
                exchange.unreachable(why)
        self._fail("")

    def _retire(self) -> None:
        """Take no more requests; those under way go on."""
        if self.usable:
            self.usable = False
            self._owner.retired(self)

    def _drop_all(self, why: str) -> None:
        under_way = list(self._open.values())
        self._open.clear()
        self._bodies.clear()
        self._retire()
        for exchange in under_way:
            if exchange.stream <= self._written:
                exchange.lost(why)
            else:
                self._owner.again(exchange, why)

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
        code = event.error_code
        why = f"{self._address} reset the stream ({_name(code)})"
        if code == ErrorCodes.REFUSED_STREAM and not exchange.status:
            self._send_again(exchange, why, fruitless=True)
            return
        self._end(exchange)
        if code == ErrorCodes.HTTP_1_1_REQUIRED:
            exchange.unreachable(why)
        else:
            exchange.lost(why)

    def _on_settings(self, event: Any) -> None:
        # Without the setting the number is unbounded; h2 then says 2**32 + 1.
        self.most_streams = self._engine.remote_settings.max_concurrent_streams

    def _on_goaway(self, event: Any) -> None:
        self._retire()
        why = f"{self._address} is going away ({_name(event.error_code)}) and did not take the request"
        last = event.last_stream_id
        for exchange in [other for stream, other in self._open.items() if stream > last]:
            self._send_again(exchange, why, fruitless=not last)
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


def _name(code: int) -> str:
    try:
        return ErrorCodes(code).name
    except ValueError:
        return f"error {code}"
