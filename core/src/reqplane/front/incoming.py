"""What a client sends: its body within limits of size, memory and time, its options, its headers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from reqplane.codecs import JsonCodec
from reqplane.errors import PayloadError
from reqplane.front.exchange import Exchange, Scope
from reqplane.front.forms import Form, form_for
from reqplane.front.problems import AGAIN, Problem
from reqplane.interfaces import Budget

BODY_SECONDS = 30.0
"""What a client may take to send its body."""
LATE = Problem(HTTPStatus.REQUEST_TIMEOUT, "Timeout", f"the body did not come within {BODY_SECONDS:g} s")

_OPTIONS = ("instance", "timeout")
_TIMEOUT_HEADER = "x-request-timeout"
_codec = JsonCodec()


class HungUp(Exception):
    """The client is gone."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a call is to be made, and answered."""

    instance: int | None
    timeout: float | None
    form: Form


def headers_of(scope: Scope) -> dict[str, str]:
    """By name in lower case; of a header that stands there several times, all values, as HTTP has it."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        found[name] = f"{found[name]},{text}" if name in found else text
    return found


def options_of(scope: Scope, headers: Mapping[str, str]) -> Options:
    """Problem if they can't be what was meant."""
    _check_page(headers)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "BadRequest", "the body is compressed, wanted JSON")
    query = _query(scope["query_string"].decode("latin-1"))
    form = form_for(headers.get("accept", ""))
    if scope["http_version"] == "1.0" and not form.ends_itself:
        raise Problem(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
            "BadRequest",
            "by HTTP/1.0 an answer that was cut short would look whole: use HTTP/1.1 (nginx: "
            "proxy_http_version 1.1), or accept text/event-stream, which has an event for the end",
        )
    timeout = query.get("timeout", headers.get(_TIMEOUT_HEADER))
    return Options(_instance(query.get("instance")), _timeout(timeout), form)


def _check_page(headers: Mapping[str, str]) -> None:
    """A page that somebody looks at must not make their browser call what only they can reach."""
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is not None and (not host or origin.partition("://")[2].lower() != host.lower()):
        raise Problem(HTTPStatus.FORBIDDEN, "NotAllowed", f"pages of {origin:.100} may not call this front")


def _query(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=10)
    except ValueError:
        raise _bad("there are too many options") from None
    options = dict(pairs)
    for name in options:
        if name not in _OPTIONS:
            raise _bad(f"there is no option {name!r:.60}, only {' and '.join(_OPTIONS)}")
    if len(options) < len(pairs):
        raise _bad("an option stands there twice")
    return options


def _instance(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 20:
        raise _bad(f"instance is {text!r:.60}, wanted a worker's number")
    return int(text)


def _timeout(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e9:
        raise _bad(f"timeout is {text!r:.60}, wanted seconds above 0")
    return value


def _bad(message: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "BadRequest", message)


# ── the body ────────────────────────────────────────────────────────────────────────────────────────


class Body:
    """A request's body, read whole.

    Also that of a request which will be refused: on HTTP/2 hypercorn's whole connection dies of what comes
    for a request that has its answer.  Only one of more than twice what it may have is given up, and then
    its stream, or its connection, ends.
    """

    def __init__(self, exchange: Exchange, budget: Budget, most: int) -> None:
        self._exchange, self._budget, self._most = exchange, budget, most
        self._held = 0
        self._bytes = bytearray()

    async def read(self, *, keep: bool = True) -> None:
        """Problem if it is too large; HungUp."""
        exchange, size, room = self._exchange, 0, True
        while exchange.unread:
            message = await exchange.receive()
            if message["type"] != "http.request":
                raise HungUp
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > 2 * self._most:
                break
            if keep and room and size <= self._most:
                room = self._take(chunk)
            exchange.unread = message.get("more_body", False)
        if size > self._most:
            self.release()
            words = f"the body has more than {self._most} bytes (DYN_MAX_FRAME_BYTES)"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "TooLarge", words)
        if not room:
            words = "there are as many bytes of requests under way as DYN_MAX_INFLIGHT_BYTES allows"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "Busy", words, AGAIN)

    def _take(self, chunk: bytes) -> bool:
        if not self._budget.take(len(chunk)):
            self.release()
            return False
        self._held += len(chunk)
        self._bytes += chunk
        return True

    def release(self) -> None:
        """Its bytes are not held any more; idempotent."""
        self._budget.give(self._held)
        self._held = 0
        self._bytes = bytearray()

    def value(self) -> Any:
        """What it says; Problem if it is not JSON."""
        if not self._bytes.strip():
            raise _bad("the body is empty, wanted the request as JSON")
        try:
            return _codec.decode(self._bytes)
        except PayloadError as error:
            raise _bad(f"the body is not JSON: {error.problem.removeprefix('not json: ')}") from None
