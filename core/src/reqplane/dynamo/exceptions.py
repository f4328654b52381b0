"""The exceptions of `dynamo.llm.exceptions`, and those that callers see when a call fails.

A handler may raise any exception.  Its caller sees, whichever side either of them is on, what Dynamo's does:

    before there is a stream   Exception("Unavailable: No workers available for endpoint ns/comp/ep")
    in the stream              ValueError("InvalidRequest: ValueError: too long")
                               InvalidArgument("too long"), if the handler raised InvalidArgument

The first word is the failure's class, from the table in `reqplane.wire.failure`.  `__cause__` is Reqplane's
own exception, which says more: which worker, on which plane, how many items came before.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, cast

from reqplane.errors import (
    CannotConnect as _CannotConnect,
)
from reqplane.errors import (
    DeadlineExceeded,
    DeliveryUnknown,
    FrameTooLarge,
    HandlerFailed,
    NoInstances,
    PayloadError,
    ReqplaneError,
    RequestRefused,
    StreamBroken,
)
from reqplane.wire import failure
from reqplane.wire.failure import Kind

log = logging.getLogger("reqplane")


class DynamoException(Exception):
    """Root of those that travel under their own name.  `failure_kind` is how they are told on the wire."""

    failure_kind: Kind = failure.UNKNOWN


class Unknown(DynamoException):
    """A failure of no particular sort."""


class InvalidArgument(DynamoException):
    """The request can't be served as it is.  The only one that callers get as the type that was raised."""

    failure_kind = failure.INVALID_ARGUMENT


class CannotConnect(DynamoException):
    """Something that the worker needs can't be reached."""

    failure_kind = failure.CANNOT_CONNECT


class Disconnected(DynamoException):
    """A connection that the worker needs was lost."""

    failure_kind = failure.DISCONNECTED


class ConnectionTimeout(DynamoException):
    """Something took the worker too long."""

    failure_kind = failure.CONNECTION_TIMEOUT


class Cancelled(DynamoException):
    """The request was given up."""

    failure_kind = failure.CANCELLED


class EngineShutdown(DynamoException):
    """The worker's engine is gone."""

    failure_kind = failure.ENGINE_SHUTDOWN


class StreamIncomplete(DynamoException):
    """The answer ended too early."""

    failure_kind = failure.STREAM_INCOMPLETE


class WorkerUnavailable(DynamoException):
    """The worker can't take requests yet."""

    failure_kind = failure.WORKER_UNAVAILABLE


class RouterQueueLimitExceeded(DynamoException):
    """Dynamo's routers raise it, handlers may."""

    policy_class: str
    limit_kind: str
    current: int
    limit: int


class SelectionServiceError(DynamoException):
    """Dynamo's selection service raises it, handlers may."""

    kind: str
    status_code: int


_LONGEST_MESSAGE = 8192


class HttpError(Exception):
    """A handler's failure that an HTTP front answers with `code`, which is at least 0 and below 600.

    ValueError if it is not, or if `message` is no text.  A longer text than 8192 characters is cut.
    """

    def __init__(self, code: int, message: str) -> None:
        if not isinstance(code, int) or isinstance(code, bool) or not 0 <= code < 600:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"the HTTP status is {code!r:.60}, wanted a whole number from 0 to 599")
        if not isinstance(message, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"the message is {message!r:.60}, wanted a text")
        if len(message) > _LONGEST_MESSAGE:
            log.warning("the message of an HttpError has %d characters and is cut", len(message))
            message = message[: _LONGEST_MESSAGE - 3] + "..."
        self.code = code
        self.message = message
        super().__init__(f"HTTP {code}: {message}")

    @property
    def failure_kind(self) -> Kind:
        """Recorded from Dynamo 1.6.1, for every status."""
        other = _BAD_REQUEST if 400 <= self.code < 500 else _INTERNAL
        return _OF_STATUS.get(self.code, other)

    @property
    def failure_text(self) -> str:
        return json.dumps(
            {"message": self.message, "code": self.code}, separators=(",", ":"), ensure_ascii=False
        )


_BAD_REQUEST = Kind("InvalidArgument", "InvalidRequest", "request.invalid")
_INTERNAL = Kind("Unknown", "Internal", "runtime.internal")
_TOO_LATE = Kind("ResponseTimeout", "DeadlineExceeded", "request.deadline_exceeded")
_TOO_LARGE = Kind("InvalidArgument", "PayloadTooLarge", "request.payload_too_large")
_OF_STATUS = {
    401: Kind("Unknown", "Unauthenticated", "request.unauthenticated"),
    403: Kind("Unknown", "PermissionDenied", "request.permission_denied"),
    404: Kind("Unknown", "NotFound", "request.not_found"),
    408: _TOO_LATE,
    409: Kind("Unknown", "Conflict", "request.conflict"),
    413: _TOO_LARGE,
    415: Kind("InvalidArgument", "UnsupportedMedia", "request.unsupported_media"),
    429: Kind("ResourceExhausted", "RateLimited", "request.rate_limited"),
    431: _TOO_LARGE,
    499: Kind("Cancelled", "Cancelled", "request.cancelled"),
    501: Kind("Unknown", "NotImplemented", "runtime.not_implemented"),
    502: Kind("Unknown", "BackendProtocol", "backend.protocol"),
    503: Kind("Unavailable", "Unavailable", "backend.unavailable"),
    504: _TOO_LATE,
    529: Kind("ResourceExhausted", "CapacityExhausted", "capacity.exhausted"),
}


# ── what callers get ────────────────────────────────────────────────────────────────────────────────


def before_the_stream(error: ReqplaneError) -> Exception:
    """For a call that no worker has begun to answer."""
    if isinstance(error, PayloadError):
        return TypeError(error.problem)
    return Exception(_unsent(error))


def in_the_stream(error: ReqplaneError) -> Exception:
    """For an answer that did not come whole."""
    if isinstance(error, HandlerFailed):
        return _raised_by_handler(error)
    if isinstance(error, StreamBroken):
        return ValueError("Unavailable: Stream ended before generation completed")
    if isinstance(error, PayloadError):
        return ValueError(f"Internal: {error.summary()}")
    return ValueError(_unsent(error))


_TOO_MUCH = (
    "InvalidRequest: Request payload is too large for this deployment. "
    "Reduce the input size or metadata size and retry."
)


def _unsent(error: ReqplaneError) -> str:
    late = isinstance(error, DeadlineExceeded)
    if isinstance(error, NoInstances):
        path = str(error.endpoint).replace(".", "/")
        if error.wanted is None:
            return f"Unavailable: No workers available for endpoint {path}"
        return f"Unavailable: instance_id={error.wanted} not found for endpoint {path}"
    if isinstance(error, FrameTooLarge):
        return _TOO_MUCH
    plane = (error.transport or "").upper() if isinstance(error, _CannotConnect | DeliveryUnknown) else ""
    if isinstance(error, _CannotConnect):
        return f"Unavailable: {plane} connection to {error.address} failed"
    if isinstance(error, DeliveryUnknown) and error.reason == "timed_out" and error.address:
        return f"DeadlineExceeded: {plane} request to {error.address} timed out"
    if isinstance(error, RequestRefused):
        return f"Unavailable: {error.problem}"
    return f"{'DeadlineExceeded' if late else 'Unavailable'}: {error.summary()}"


def _raised_by_handler(error: HandlerFailed) -> Exception:
    detail = error.detail
    if not detail:  # it was told before the stream
        return Exception(f"Unavailable: Worker generate() failed before response stream: {error.problem}")
    public = detail.get("public")
    if detail.get("error_type") == failure.INVALID_ARGUMENT.error_type and isinstance(public, Mapping):
        text = cast("Mapping[str, Any]", public).get("message")
        if isinstance(text, str):
            return InvalidArgument(text)
    texts = [detail.get(name) for name in ("diagnostic", "message")]
    text = next((text for text in texts if isinstance(text, str)), error.problem)
    cls = detail.get("class")
    return ValueError(f"{cls if isinstance(cls, str) else failure.UNKNOWN.cls}: {text}")
