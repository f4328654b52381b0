"""The process's connection to NATS: kept for ever, made anew whenever it is lost.

nats-py logs in, encrypts and pings on each connection; which server is next, what is subscribed there and
what happens to requests under way when one is lost is decided here.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast

from nats.aio.client import Client
from nats.errors import StaleConnectionError
from reqplane.errors import CannotConnect, SettingsError
from reqplane.interfaces import Host

from reqplane_nats import wire as lines
from reqplane_nats.cutter import Handler
from reqplane_nats.login import TLS_WAYS, WAYS, Login
from reqplane_nats.pipe import NoTls, Pipe
from reqplane_nats.reason import words
from reqplane_nats.settings import NatsSettings, Server, server
from reqplane_nats.wire import Owner, Wire

_CONNECT_LIMIT = 2.0
"""Seconds for each step of connecting …"""
_LOGIN_LIMIT = 6.0
"""… and for all of them."""
_PAUSE = 0.25
"""Seconds between two rounds of all servers …"""
_PAUSE_AFTER_REFUSAL = 1.0
"""… and when one has refused us: that needs a human."""
_PING_INTERVAL = 1.2
"""The third without an answer is the end, counted from when bytes moved last: a frozen server, whose buffers
may take some at first, is noticed within 6 s."""
_TELL_EVERY = 30.0
"""Seconds between two complaints of the same kind in the log."""
_MOST_DISCOVERED = 64
_DEFAULT_MAX_PAYLOAD = 1024 * 1024


class Refused(Exception):
    """A server that can be reached does not want us."""


class Subscription:
    """One subject that is listened to on every connection, until it is removed."""

    __slots__ = ("handler", "number", "queue", "refused", "subject")

    def __init__(self, subject: str, queue: str, number: bytes, handler: Handler) -> None:
        self.subject, self.queue, self.number, self.handler = subject, queue, number, handler
        self.refused: str | None = None
        """What the server says if it does not allow it."""


class Link(Owner):
    """The connection, while there is one: `wire`."""

    def __init__(self, host: Host, settings: NatsSettings, login: Login) -> None:
        self.log = host.log
        self.handlers = self._handlers = dict[bytes, Handler]()
        self.wire: Wire | None = None
        """None while there is no connection."""
        self._incoming: Wire | None = None  # where messages come from; a little earlier
        self.max_payload = _DEFAULT_MAX_PAYLOAD
        """The largest message with its headers, in bytes, as the server last said."""
        self.max_frame_bytes = host.limits.max_frame_bytes
        self.dynamo = host.dynamo
        self.address = settings.servers[0].address
        """The server's, or that of the one tried last."""
        self.problem = "not connected yet"
        """Why there is no connection."""
        self.on_lost: Callable[[str], None] = _ignore
        self.on_emptied: Callable[[], None] = _nothing
        self.on_forbidden: Callable[[str, str], None] = _ignore_two
        self._host = host
        self._login = login
        self._servers = list(settings.servers)
        random.shuffle(self._servers)  # so that a fleet spreads over a cluster
        self._discovered: list[Server] = []
        self._subscriptions: dict[bytes, Subscription] = {}
        self._count = 0
        self._current = settings.servers[0]
        self._was_connected = self._has_headers = False
        self._complaint = ""
        self._ready = asyncio.Event()
        self._refusal: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._client: Client | None = None
        self._pipe: Pipe | None = None
        self._keeper: asyncio.Task[Any] | None = None
        self._told: dict[str, float] = {}
        self.closed = False

    # ── coming and going ──

    async def start(self, patience: float) -> None:
        """Begin, and wait at most `patience` seconds.  SettingsError: a server refuses us."""
        self._keeper = self._host.spawn(self._keep(), "nats connection")
        ready = asyncio.ensure_future(self._ready.wait())
        await asyncio.wait([ready, self._refusal], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._ready.is_set():
            return
        if self._refusal.done():
            raise self._settings_error(self._refusal.result())
        self.log.warning(
            "no NATS server can be reached at %s yet: %s; still trying (NATS_SERVER)",
            self.where,
            self.problem,
        )

    @property
    def where(self) -> str:
        """The servers, for messages."""
        return ",".join(one.url for one in self._servers)

    def _settings_error(self, problem: str) -> SettingsError:
        return SettingsError([("NATS_SERVER", self.where, problem)])

    async def connected(self, patience: float, every: float) -> None:
        """Wait until there is a connection, telling of it `every` so many seconds.

        SettingsError when `patience` seconds are over.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        while self.closed or not self._ready.is_set():
            left = end - loop.time()
            if left <= 0 or self.closed:
                wrong = f"no NATS server could be reached within {patience:g} s: {self.problem}; "
                raise self._settings_error(wrong + "start one, or set NATS_SERVER to where it is")
            with suppress(TimeoutError):
                async with asyncio.timeout(min(every, left)):
                    await self._ready.wait()
                    return
            self.log.warning("waiting for a NATS server at %s (NATS_SERVER): %s", self.where, self.problem)

    async def aclose(self) -> None:
        """Close the connection and look for no other; idempotent."""
        self.closed = True
        self._ready.set()  # nobody waits any more
        keeper = self._keeper
        while keeper is not None and not keeper.done():  # nats-py swallows a cancel here and there
            keeper.cancel()
            await asyncio.wait([keeper], timeout=_PAUSE)
        await self._hang_up()
        self.problem = "the transport is closed"

    async def _keep(self) -> None:
        while not self.closed:
            pause = _PAUSE
            refusals: list[str] = []
            for one in [*self._servers, *self._discovered]:
                if self.closed:
                    return
                self._later(one)
                try:
                    await self._connect(one)
                except (Refused, NoTls, ssl.SSLError) as error:
                    refusals.append(self._failed(one, error))
                    pause = _PAUSE_AFTER_REFUSAL
                except Exception as error:  # whatever nats-py makes of a server's odd answers
                    self._failed(one, error)
                else:
                    assert self.wire is not None
                    await asyncio.wait([self.wire.over])  # a cancel must not cancel the future
                    break
                finally:
                    if self.wire is None:
                        await self._hang_up()
            if refusals and not self._refusal.done():
                self._refusal.set_result("; ".join(refusals))
            await self._hang_up()
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))

    def _later(self, one: Server) -> None:
        """Next time the others come first."""
        for servers in (self._servers, self._discovered):
            if one in servers:
                servers.remove(one)
                servers.append(one)

    def _failed(self, one: Server, error: BaseException) -> str:
        self.address, self.problem = one.address, words(error)
        if isinstance(error, ssl.SSLError):
            self.problem += f": see {TLS_WAYS}"
        text = f"{one.url}: {self.problem}"
        self._tell(f"connecting:{one.address}:{self.problem}", "no connection to the NATS server %s", text)
        return text

    async def _connect(self, one: Server) -> None:
        """One attempt: when it returns everything is subscribed and `wire` is set."""
        tls = self._login.tls if one.tls or self._login.tls is not None else None
        self._pipe = pipe = Pipe(self, tls is not None)
        self._client = client = Client()
        client._transport = pipe  # pyright: ignore[reportPrivateUsage]
        self.address, self._current = one.address, one
        self._complaint, self._has_headers = "", False
        options = self._login.for_server(one)
        if tls is not None:
            options["tls"] = tls
        async with asyncio.timeout(_LOGIN_LIMIT):
            try:
                await client.connect(
                    servers=[one.url],
                    error_cb=_raise,
                    allow_reconnect=False,
                    connect_timeout=cast(int, _CONNECT_LIMIT),
                    ping_interval=cast(int, _PING_INTERVAL),
                    max_outstanding_pings=2,
                    dont_randomize=True,
                    name=f"reqplane {self._host.process[:8]}",
                    **options,
                )
            except Exception as error:
                if "authorization" in str(error).lower() or "authentication" in str(error).lower():
                    raise Refused(f"it refuses the login ({words(error)}): see {WAYS}") from error
                raise
            if not self._has_headers:
                raise Refused("the server knows no headers: wanted is NATS 2.2 or later")
            assert pipe.wire is not None
            self._incoming = pipe.wire
            client._error_cb = self._client_failed  # pyright: ignore[reportPrivateUsage]
            for subscription in self._subscriptions.values():
                self._subscribe(pipe.wire, subscription)
            await asyncio.wait([pipe.wire.ping()])
            if pipe.wire.over.done():
                raise pipe.wire.failure or ConnectionResetError(self._complaint or "it closed the connection")
        self.wire = pipe.wire
        self._ready.set()
        again = logging.INFO if self._was_connected else logging.DEBUG
        self._was_connected = True
        self.log.log(again, "connected to the NATS server %s", one.url)

    async def _hang_up(self) -> None:
        client, pipe = self._client, self._pipe
        self._client = self._pipe = None
        if client is not None and client.is_connected:
            with suppress(Exception):
                await client.close()
        if pipe is not None:
            pipe.abort()
            if pipe.wire is not None and pipe.wire.transport is not None:
                await asyncio.wait([pipe.wire.over], timeout=_CONNECT_LIMIT)
        if client is not None:
            await _ended(client)

    async def _client_failed(self, error: Exception) -> None:
        self.problem = words(error)

    # ── what the connection tells ──

    def informed(self, info: Mapping[str, Any]) -> None:
        self._has_headers = info.get("headers") is True
        most = info.get("max_payload")
        if isinstance(most, int) and most > 0:
            self.max_payload = most
        urls = info.get("connect_urls")
        if isinstance(urls, list):
            known = {one.address for one in self._servers}
            first = self._current  # they are of one cluster, so the login is the same
            found: list[Server] = []
            for url in cast("list[object]", urls)[:_MOST_DISCOVERED]:
                with suppress(ValueError):
                    one = server(str(url))
                    if one.address not in known:
                        found.append(
                            Server(one.host, one.port, first.tls, first.user, first.password, first.token)
                        )
            self._discovered = found

    def complained(self, problem: str) -> None:
        self._complaint = problem
        lower = problem.lower()
        if lower.startswith("permissions violation for "):
            what, _, subject = problem.partition('"')
            subject = subject.partition('"')[0]
            if "subscription" in what.lower():
                for one in self._subscriptions.values():
                    if one.subject == subject:
                        one.refused = problem
            else:
                self.on_forbidden(subject, problem)
        self._tell(f"complaint:{problem}", "the NATS server complains: %s", f"{self.address}: {problem}")

    def emptied(self) -> None:
        self.on_emptied()

    def alive(self) -> None:
        if self._client is not None:
            self._client._pings_outstanding = 0  # pyright: ignore[reportPrivateUsage]

    def lost(self, wire: Wire) -> None:
        if wire is not self.wire:
            return
        self.wire = None
        if not self.closed:
            self._ready.clear()
            self.problem = self._reason_of_loss(wire)
            self.log.warning("lost the connection to the NATS server %s: %s", self.address, self.problem)
        else:
            self.problem = "the transport is closed"
        self.on_lost(self.problem)

    def _reason_of_loss(self, wire: Wire) -> str:
        """What the server said, what the system says, or what nats-py found."""
        found = wire.failure or (self._client.last_error if self._client is not None else None)
        if isinstance(found, StaleConnectionError):
            return "it did not answer pings"
        return self._complaint or (words(found) if found is not None else "it closed the connection")

    def _tell(self, key: str, text: str, what: str) -> None:
        """A warning, but not the same one all the time."""
        now = asyncio.get_running_loop().time()
        if now - self._told.get(key, -_TELL_EVERY) >= _TELL_EVERY:
            if len(self._told) > 100:
                self._told.clear()
            self._told[key] = now
            self.log.warning(text, what)

    def reply(self, message: bytes) -> None:
        """Send a message from within a handler.  One above max_payload would end the connection."""
        if self._incoming is None or self._incoming.over.done():
            return
        if len(message) - message.find(b"\r\n") - 4 > self.max_payload:  # its payload, with headers
            self._tell("reply", "%s", f"an answer of {len(message)} bytes is above the server's max_payload")
        else:
            self._incoming.reply(message)

    # ── subscribing ──

    def subscribe(self, subject: str, queue: str, handler: Handler) -> Subscription:
        """Listen, on this connection and every later one.  Await `flushed` to know that the server knows."""
        self._count += 1
        number = b"%d" % self._count
        subscription = Subscription(subject, queue, number, handler)
        self._subscriptions[number] = subscription
        self._handlers[number] = handler
        if (wire := self._logged_in()) is not None:
            self._subscribe(wire, subscription)
        return subscription

    def _logged_in(self) -> Wire | None:
        """The connection that has been told what is subscribed, also if it has not confirmed that yet."""
        wire = self._incoming
        return None if wire is None or wire.over.done() else wire

    def _subscribe(self, wire: Wire, subscription: Subscription) -> None:
        subscription.refused = None
        wire.write(lines.subscribe(subscription.subject, subscription.queue, subscription.number))

    async def unsubscribe(self, subscriptions: list[Subscription], patience: float) -> None:
        """Stop listening; what the server has sent by then is still handed over."""
        wire = self._logged_in()
        for subscription in subscriptions:
            if self._subscriptions.pop(subscription.number, None) is not None and wire is not None:
                wire.write(b"UNSUB %s\r\n" % subscription.number)
        await self.flushed(patience)
        for subscription in subscriptions:
            self._handlers.pop(subscription.number, None)

    async def flushed(self, patience: float) -> bool:
        """Wait until the server has dealt with all that was written; False if it could not."""
        if self.wire is None:
            return False
        answered = self.wire.ping()
        done, _ = await asyncio.wait([answered], timeout=patience)
        return bool(done) and not answered.cancelled()

    def unreachable(self) -> CannotConnect:
        """The error of a request while there is no connection."""
        error = CannotConnect(
            f"no connection to the NATS server: {self.problem}", transport="nats", address=self.address
        )
        error.by_worker = False
        return error


async def _ended(client: Client) -> None:
    """Wait for the tasks that nats-py leaves behind when it is closed."""
    names = ("_reading_task", "_ping_interval_task", "_flusher_task")
    found: list[asyncio.Task[Any] | None] = [getattr(client, name, None) for name in names]
    tasks = [task for task in found if task is not None]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CONNECT_LIMIT)


async def _raise(error: Exception) -> None:
    """While nats-py connects, its first failure is the answer; else it would try for ever."""
    raise error


def _ignore(_: str) -> None: ...


def _ignore_two(_: str, __: str) -> None: ...


def _nothing() -> None: ...
