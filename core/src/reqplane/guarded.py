"""Plugins that are called for each request, held to their contracts.

What goes wrong in a codec is a PayloadError, whatever it raises: a foreign exception would reach callers
bare, or break an answer that only has one bad item.  A router policy that fails to pick is a broken plugin.
What only looks on or counts is never worth a call: it is logged, once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Any, ParamSpec

from reqplane.balancing import LeastLoaded, PowerOfTwo
from reqplane.codecs import JsonCodec, MsgpackCodec
from reqplane.errors import PayloadError, PluginBroken
from reqplane.interfaces import Observer, Outcome, PayloadCodec, RouterPolicy
from reqplane.model import Body, EndpointId, Instance, Load, Request
from reqplane.routing import Direct, Random, RoundRobin
from reqplane.wire.failure import error_text

P = ParamSpec("P")

log = logging.getLogger("reqplane")

_OUR_POLICIES = (RoundRobin, Random, LeastLoaded, PowerOfTwo, Direct)


class _Complaints:
    """Calls what may fail without harm; each method's failure is logged once."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told: set[str] = set()

    def call(self, method: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:
            if method.__name__ not in self._told:
                self._told.add(method.__name__)
                log.exception("%s failed in %s", self._what, method.__name__)


# ── codecs ──────────────────────────────────────────────────────────────────────────────────────────


def guarded_codec(codec: PayloadCodec) -> PayloadCodec:
    """The codec as calls use it; ours keep to the contract by themselves."""
    return codec if type(codec) in (MsgpackCodec, JsonCodec) else _GuardedCodec(codec)


class _GuardedCodec(PayloadCodec):
    def __init__(self, codec: PayloadCodec) -> None:
        self.name = codec.name  # pyright: ignore[reportAttributeAccessIssue]
        self._encode: Callable[[Any], object] = codec.encode
        self._decode = codec.decode

    def encode(self, value: Any) -> bytes:
        try:
            data = self._encode(value)
        except PayloadError:
            raise
        except Exception as error:
            raise PayloadError(f"{self.name}: {error_text(error)}") from error
        if not isinstance(data, bytes):
            raise PayloadError(f"the codec {self.name} made {type(data).__name__} of it, wanted bytes")
        return data

    def decode(self, data: Body) -> Any:
        try:
            return self._decode(data)
        except PayloadError:
            raise
        except Exception as error:
            raise PayloadError(f"{self.name}: {error_text(error)}") from error


# ── router policies ─────────────────────────────────────────────────────────────────────────────────


def guarded_policy(policy: RouterPolicy, broken: Callable[[str], PluginBroken]) -> RouterPolicy:
    """The policy as calls use it; `broken` makes the error of a problem.  Ours are left as they are."""
    return policy if type(policy) in _OUR_POLICIES else _GuardedPolicy(policy, broken)


class _GuardedPolicy(RouterPolicy):
    def __init__(self, policy: RouterPolicy, broken: Callable[[str], PluginBroken]) -> None:
        self.name = policy.name  # pyright: ignore[reportAttributeAccessIssue]
        self._policy: Any = policy
        self._broken = broken
        self._complaints = _Complaints(f"the router mode {policy.name}")

    def pick(self, request: Request, avoid: AbstractSet[int]) -> Instance | None:
        try:
            picked: object = self._policy.pick(request, avoid)
        except Exception as error:
            raise self._broken(f"choosing a worker raised {type(error).__name__}: {error}") from error
        if picked is not None and not isinstance(picked, Instance):
            raise self._broken(f"choosing a worker gave {picked!r:.60}; wanted an Instance or None")
        return picked

    def changed(self, added: Iterable[Instance], removed: Iterable[Instance]) -> None:
        self._complaints.call(self._policy.changed, added, removed)

    def started(self, instance: Instance) -> None:
        self._complaints.call(self._policy.started, instance)

    def finished(self, instance: Instance, outcome: Outcome) -> None:
        self._complaints.call(self._policy.finished, instance, outcome)

    def reported(self, instance: Instance, load: Load) -> None:
        self._complaints.call(self._policy.reported, instance, load)


# ── observers ───────────────────────────────────────────────────────────────────────────────────────


class GuardedObserver(Observer):
    """Another observer, whose exceptions end here."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._complaints = _Complaints(f"the observer {type(observer).__qualname__}")

    def call_started(self, request_id: str, instance: Instance, plane: str) -> None:
        self._complaints.call(self._observer.call_started, request_id, instance, plane)

    def call_finished(self, request_id: str, items: int, error: BaseException | None) -> None:
        self._complaints.call(self._observer.call_finished, request_id, items, error)

    def handler_started(self, request_id: str, endpoint: EndpointId) -> None:
        self._complaints.call(self._observer.handler_started, request_id, endpoint)

    def handler_finished(self, request_id: str, items: int, error: BaseException | None) -> None:
        self._complaints.call(self._observer.handler_finished, request_id, items, error)

    def close(self) -> None:
        self._complaints.call(self._observer.close)
        self._observer = Observer()  # a call that the program has not ended yet is told of to nobody
