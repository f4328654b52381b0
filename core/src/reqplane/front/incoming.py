"""What a client sends: its body within limits of size and time, its options, its headers."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from reqplane.wire.trace import CARRIED, carried

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_BODY_SECONDS = 30.0
"""What a client may take to send its body."""
_OPTIONS = ("instance", "timeout")


class Refused(Exception):
    """A request that is answered by a status of 4xx or 5xx, before anything is called."""

    def __init__(self, status: HTTPStatus, kind: str, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, dict(headers or {})


class HungUp(Exception):
    """The client is gone."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A call as it was asked for."""

    request: Any
    instance: int | None
    timeout: float | None
    headers: Mapping[str, str]
    """Trace and id headers, which travel to the worker."""
    accept: str


async def read(scope: Scope, receive: Receive, most: int) -> Incoming:
    """Read it all; Refused if it is not what it should be."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    options = _options(scope["query_string"].decode("latin-1"))
    declared = headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > most:
        raise _too_large(most)
    body = await _body(receive, most)
    return Incoming(
        request=_json(body),
        instance=_instance(options.get("instance")),
        timeout=_timeout(options.get("timeout")),
        headers=carried({name: headers[name] for name in CARRIED if name in headers}),
        accept=headers.get("accept", ""),
    )


async def _body(receive: Receive, most: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise HungUp
                chunk: bytes = message.get("body", b"")
                size += len(chunk)
                if size > most:
                    raise _too_large(most)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise Refused(
            HTTPStatus.REQUEST_TIMEOUT, "Timeout", f"the body did not come within {_BODY_SECONDS:g} s"
        ) from None


def _too_large(most: int) -> Refused:
    return Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "TooLarge",
        f"the body has more than {most} bytes (DYN_MAX_FRAME_BYTES)",
    )


def _json(body: bytes) -> Any:
    if not body.strip():
        raise _bad("the body is empty, wanted the request as JSON")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad(f"the body is not JSON: {error}") from None


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS:
            raise _bad(f"there is no option {name!r:.60}, only {' and '.join(_OPTIONS)}")
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


def _bad(message: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "BadRequest", message)
