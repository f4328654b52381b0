"""The only file that knows `etcd3`: a client for one member of etcd.

Of etcd3 this uses the channel, the messages and the calls.  Its watcher is left alone: that thread spins on
a dead server, never ends, and does not tell that a watch was cancelled.  Its credentials too: on a channel
without TLS gRPC refuses them, so the token travels as metadata.
"""

from __future__ import annotations

import importlib
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from reqplane.discovery.etcd import diagnosis, stubs
from reqplane.discovery.etcd.reasons import explained
from reqplane.discovery.etcd.seam import (
    Compacted,
    Denied,
    Entry,
    EtcdError,
    Happening,
    Heard,
    LeaseGone,
    LeaseThere,
    Listing,
    Refused,
    Removal,
    Tell,
    Unreachable,
)
from reqplane.discovery.etcd.settings import Address, EtcdSettings, system_roots

CALL_LIMIT = 2.0
"""Seconds for each call."""
FIRST_LIMIT = 0.8
"""And for the first, if there is another member to go to."""
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
)


class EtcdClient:
    """A `seam.Client`."""

    def __init__(self, address: Address, settings: EtcdSettings, limit: float, is_curious: bool) -> None:
        """Connects to nothing yet.  `limit` is for each call until the first listing is there; who is
        curious looks closer at a member that can't be reached."""
        try:
            self._etcd3 = stubs.import_etcd3()
            self._grpc: Any = importlib.import_module("grpc")
        except ImportError as error:
            raise Denied("", str(error)) from error
        self._address, self._settings = address, settings
        host = f"[{address.host}]" if ":" in address.host else address.host
        self._closed, self._is_curious = False, is_curious
        with self._translated():
            self._client: Any = self._etcd3.client(
                host,
                address.port,
                ca_cert=(settings.ca or system_roots()) if address.is_secure else None,
                cert_cert=(settings.client_cert or None) if address.is_secure else None,
                cert_key=(settings.client_key or None) if address.is_secure else None,
                timeout=limit,
                grpc_options=_OPTIONS,
            )
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._reader: threading.Thread | None = None

    def connect(self) -> None:
        """The first call, which fails early; with a user it gets a token."""
        with self._translated():
            if self._settings.username:
                request = self._etcd3.etcdrpc.AuthenticateRequest(
                    name=self._settings.username, password=self._settings.password
                )
                stub = self._etcd3.etcdrpc.AuthStub(self._client.channel)
                answer = stub.Authenticate(request, self._client.timeout)
                self._client.metadata = (("token", answer.token),)

    # ── keys ──

    def list(self, prefix: str) -> Listing:
        with self._translated():
            answer = self._client.get_prefix_response(prefix)
            self._client.timeout = CALL_LIMIT
            entries = tuple(_entry(found.key, found, found.lease) for found in answer.kvs)
            return Listing(answer.header.revision, entries)

    def claim(self, key: str, value: bytes, lease: int) -> Entry | None:
        ask = self._client.transactions
        return self._written(key, ask.create(key) == 0, value, lease)

    def replace(self, entry: Entry, value: bytes, lease: int) -> Entry | None:
        ask = self._client.transactions
        return self._written(entry.key, ask.mod(entry.key) == entry.modified, value, lease)

    def update(self, key: str, created: int, value: bytes, lease: int) -> bool:
        ask = self._client.transactions
        return self._written(key, ask.create(key) == created, value, lease) is not None

    def _written(self, key: str, condition: Any, value: bytes, lease: int) -> Entry | None:
        ask = self._client.transactions
        done, answers = self._transact([condition], [ask.put(key, value, lease), ask.get(key)])
        if not done:
            return None
        [(_, found)] = answers[1]
        return _entry(found.key, found, found.lease_id, value)

    def remove(self, key: str, created: int) -> None:
        ask = self._client.transactions
        self._transact([ask.create(key) == created], [ask.delete(key)])

    def _transact(self, conditions: Sequence[Any], then: Sequence[Any]) -> tuple[bool, list[Any]]:
        with self._translated():
            return self._client.transaction(compare=conditions, success=then, failure=[])

    # ── leases ──

    def grant(self, ttl: int, number: int) -> int:
        try:
            with self._translated():
                lease: int = self._client.lease(ttl, number).id
                return lease
        except LeaseThere:
            if self.keep(number):
                return number
            raise Refused("the former lease of this worker's number is about to go") from None

    def keep(self, lease: int) -> bool:
        try:
            with self._translated():
                for answer in self._client.refresh_lease(lease):
                    return answer.TTL > 0
        except LeaseGone:
            return False
        raise Unreachable("it did not answer whether the lease lives")

    def revoke(self, lease: int) -> None:
        with suppress(LeaseGone), self._translated():
            self._client.revoke_lease(lease)

    # ── the watch ──

    def watch(self, prefix: str, revision: int, tell: Tell) -> None:
        messages = self._etcd3.etcdrpc
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        wanted = messages.WatchCreateRequest(
            key=prefix.encode(), range_end=end.encode(), start_revision=revision, progress_notify=True
        )
        self._requests.put(messages.WatchRequest(create_request=wanted))
        with self._translated():
            # With `hasleader` a member that has lost the others says so, instead of nothing ever.
            answers = messages.WatchStub(self._client.channel).Watch(
                iter(self._requests.get, None),
                metadata=(*(self._client.metadata or ()), ("hasleader", "true")),
            )
        name = "reqplane-etcd-watch"
        self._reader = threading.Thread(target=self._read, args=(answers, tell), name=name, daemon=True)
        self._reader.start()

    def _read(self, answers: Iterator[Any], tell: Tell) -> None:
        """Runs in a thread of its own until the watch ends."""
        try:
            with self._translated():
                for answer in answers:
                    if answer.compact_revision:
                        raise Compacted(f"what was before revision {answer.compact_revision} is forgotten")
                    if answer.canceled:
                        raise Unreachable(
                            f"it ended the watch: {answer.cancel_reason or 'it did not say why'}"
                        )
                    tell(Heard(tuple(_happening(event) for event in answer.events)))
                raise Unreachable("it ended the watch")
        except EtcdError as error:
            tell(error)

    # ── the end ──

    def close(self) -> None:
        self._closed = True
        self._requests.put(None)
        self._client.close()

    def join(self, limit: float) -> None:
        """Wait for the watch's thread, after `close`."""
        if self._reader is not None:
            self._reader.join(limit)

    @contextmanager
    def _translated(self) -> Generator[None]:
        """What etcd3 and gRPC raise becomes an EtcdError."""
        try:
            yield
        except EtcdError:
            raise
        except Exception as error:
            raise self._explained(error) from None  # its text may hold what was sent

    def _explained(self, error: Exception) -> EtcdError:
        cause: Any = error if isinstance(error, self._grpc.RpcError) else error.__context__
        if self._closed:
            return Unreachable("the client was closed")
        if not isinstance(cause, self._grpc.RpcError) or not hasattr(cause, "code"):
            return Unreachable(f"{type(error).__name__}: {error}")
        return explained(cause.code().name, cause.details() or "", self._look)

    def _look(self) -> Denied | None:
        if not self._is_curious:
            return None
        if self._address.is_secure:
            return diagnosis.of_tls(self._address, self._settings)
        return diagnosis.of_plain(self._address)


def _entry(key: bytes, found: Any, lease: int, value: bytes | None = None) -> Entry:
    return Entry(
        key.decode(errors="replace"),
        found.value if value is None else value,
        found.create_revision,
        found.mod_revision,
        lease,
    )


def _happening(event: Any) -> Happening:
    found = event.kv
    if event.type == event.DELETE:
        return Removal(found.key.decode(errors="replace"), found.mod_revision)
    return _entry(found.key, found, found.lease)
