"""The responses of a worker, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reqplane.wire.trace import REFUSAL

from reqplane_http.answers import status_of
from reqplane_http.streams import Send


@dataclass(frozen=True, slots=True)
class Response:
    """A response as a value; `closes`: the connection can't be used any further."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    closes: bool = False


ACCEPTED = Response(202)


def shown(words: str) -> str:
    """Words that may hold what came over the wire, safe for a terminal: control characters are escaped."""
    if words.isprintable():
        return words
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in words)


def text(status: int, words: str, *headers: tuple[bytes, bytes], closes: bool = False) -> Response:
    return Response(status, f"{shown(words)}\n".encode(), headers=headers, closes=closes)


def refused(code: str, words: str, *, closes: bool = False) -> Response:
    """A worker's no: the status for HTTP tools, the code for our frontends."""
    return text(status_of(code), words, (REFUSAL.encode(), code.encode()), closes=closes)


async def respond(scope: Any, send: Send, response: Response) -> None:
    """Send it.  A 202 on HTTP/2 needs no header at all; HTTP/1.1 must know where the body ends."""
    headers = list(response.headers)
    if response.body:
        headers.append((b"content-type", response.content_type.encode()))
    if response.body or scope["http_version"] != "2":
        headers.append((b"content-length", str(len(response.body)).encode()))
    if response.closes:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
