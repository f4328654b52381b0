"""What an HTTP answer to a frame means, in both directions.

A worker's refusal has a status, so that HTTP tools understand it, and its code in a header, so that the
frontend gets the same error class as on every other plane.  An answer without that header is not a
worker's: a proxy made it.
"""

from __future__ import annotations

from reqplane.errors import (
    CannotConnect,
    DeliveryUnknown,
    FrameTooLarge,
    RequestError,
    RequestRefused,
    refusal,
)
from reqplane.wire import trace

STATUS_OF_CODE = {
    "invalid_frame": 400,
    "not_allowed": 403,
    "unknown_endpoint": 404,
    "wrong_instance": 421,
    "draining": 503,
    "busy": 503,
    "refused": 500,
}

CARRIED = (*trace.CARRIED, trace.INSTANCE)
"""The headers that reach the core; everything else belongs to the HTTP connection."""

_NOT_FORWARDED = (
    "no healthy upstream",
    *(
        f"reset reason: {why}"
        for why in ("remote connection failure", "local connection failure", "connection timeout", "overflow")
    ),
)
"""What Envoy says with a 503 when it had no connection to a worker.  nginx answers 502 to that as to a
connection that was lost later, so there nobody knows."""

_DYNAMOS_404 = "Endpoint not found"
"""What a worker of Dynamo's says where it does not serve a path (recorded from 0.7.1 and 0.9.1)."""

_QUOTED = 200  # characters of a foreign answer that a message repeats


def status_of(code: str) -> int:
    """The status for a refusal's code; 503 for a code that is not in the table."""
    return STATUS_OF_CODE.get(code, 503)


def verdict(status: int, code: str | None, text: str, frame_bytes: int, address: str) -> RequestError:
    """The error that an answer other than 202 stands for.  `code` is the refusal header's value."""
    if code:
        # The class puts its own words in front of the problem; the worker's already did.
        problem = text.removeprefix(refusal(code, "").summary())
        return refusal(code, problem, transport="http", address=address)
    where = f"{address} answered {status}"
    if text.strip():
        where += f": {' '.join(text[:_QUOTED].split())}"
    if status == 413:
        return FrameTooLarge(
            frame_bytes,
            None,  # what the other side allows is not known
            f"{where}. A proxy's limit is client_max_body_size in nginx, a worker's DYN_MAX_FRAME_BYTES",
            transport="http",
            address=address,
        )
    if status == 404 and text.strip() == _DYNAMOS_404:
        return refusal("unknown_endpoint", f"{where}, as Dynamo does", transport="http", address=address)
    if 400 <= status < 500:
        return RequestRefused(f"a proxy, not a worker: {where}", transport="http", address=address)
    if status == 503 and any(words in text for words in _NOT_FORWARDED):
        return CannotConnect(f"the proxy reached no worker: {where}", transport="http", address=address)
    return DeliveryUnknown("gateway", where, status=status, transport="http", address=address)
