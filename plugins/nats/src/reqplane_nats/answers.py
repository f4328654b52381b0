"""What a reply to a frame means, in both directions.

An empty reply is the ack.  A worker's refusal has its code in a header and its words as payload; the headers
that NATS gives to services' errors say the same to other tools, and alone they are a refusal too.

Dynamo's clients read none of them: they take any reply for the ack and wait for an answer for ever (recorded
from 0.7.1, 0.9.1 and 1.6.1).  But a reply with the status by which the server says that nobody is there fails
at once with them, so where they may be refusals have that status too.
"""

from __future__ import annotations

from reqplane.errors import RequestRefused, refusal
from reqplane.model import Body
from reqplane.wire.trace import REFUSAL

from reqplane_nats import block

NO_RESPONDERS = "503"
"""The status by which the server tells that nobody is subscribed."""

_ERROR = "nats-service-error"
_ERROR_CODE = "nats-service-error-code"
_CODES = {
    "invalid_frame": 400,
    "not_allowed": 403,
    "unknown_endpoint": 404,
    "wrong_instance": 421,
    "draining": 503,
    "busy": 503,
}
_MOST_WORDS = 1000  # bytes of a refusal's text
_MOST_IN_HEADER = 100


def ack(reply: bytes) -> bytes:
    """The message that accepts."""
    return b"PUB %s 0\r\n\r\n" % reply


def refused(reply: bytes, code: str, words: str, max_payload: int, *, to_dynamo: bool = False) -> bytes:
    """The message that says no, in as many words as fit; `to_dynamo`: to one of its clients, perhaps."""
    short = "".join(one if one.isascii() and one.isprintable() else "?" for one in words[:_MOST_IN_HEADER])
    headers = {
        REFUSAL: code,
        "Nats-Service-Error": short or code,
        "Nats-Service-Error-Code": str(_CODES.get(code, 500)),
    }
    head = block.encode(headers, NO_RESPONDERS if to_dynamo else "")
    room = min(_MOST_WORDS, max(0, max_payload - len(head)))
    body = words.encode("utf-8", "replace")[:room].decode("utf-8", "ignore").encode()
    return b"HPUB %s %d %d\r\n%s%s\r\n" % (reply, len(head), len(head) + len(body), head, body)


def refusal_in(headers: dict[str, str], payload: Body, address: str) -> RequestRefused | None:
    """The refusal that a reply is, if it is one."""
    code = headers.get(REFUSAL)
    words = bytes(payload[:_MOST_WORDS]).decode("utf-8", "replace")
    if code:
        # The class puts its own words in front of the problem; the worker's already did.
        return refusal(
            code, words.removeprefix(refusal(code, "").summary()), transport="nats", address=address
        )
    if _ERROR in headers or _ERROR_CODE in headers:
        told = " ".join(filter(None, (headers.get(_ERROR_CODE), headers.get(_ERROR), words.strip())))
        return RequestRefused(told, transport="nats", address=address)
    return None
