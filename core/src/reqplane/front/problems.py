"""What went wrong, as HTTP says it: a status, and a body of JSON.

{"error": {"type": "NoInstances", "message": "No instances found for …", "request_id": "…"}}
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from reqplane.errors import (
    CannotConnect,
    DeadlineExceeded,
    DeliveryUnknown,
    DiscoveryError,
    FrameTooLarge,
    HandlerFailed,
    NoInstances,
    NotAllowed,
    PayloadError,
    ReqplaneError,
    RequestRefused,
    StreamBroken,
    WorkerBusy,
    WorkerDraining,
)
from reqplane.escaping import escaped

log = logging.getLogger("reqplane")

Header = tuple[bytes, bytes]

AGAIN: tuple[Header, ...] = ((b"retry-after", b"1"),)

STATUSES: dict[type[ReqplaneError], HTTPStatus] = {
    NoInstances: HTTPStatus.SERVICE_UNAVAILABLE,
    WorkerBusy: HTTPStatus.SERVICE_UNAVAILABLE,
    WorkerDraining: HTTPStatus.SERVICE_UNAVAILABLE,
    DiscoveryError: HTTPStatus.SERVICE_UNAVAILABLE,
    FrameTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NotAllowed: HTTPStatus.FORBIDDEN,
    CannotConnect: HTTPStatus.BAD_GATEWAY,
    RequestRefused: HTTPStatus.BAD_GATEWAY,
    DeliveryUnknown: HTTPStatus.BAD_GATEWAY,
    StreamBroken: HTTPStatus.BAD_GATEWAY,
    DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    HandlerFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_PASSES = (NoInstances, WorkerBusy, WorkerDraining, DiscoveryError)
"""Worth another try in a moment."""
_MOST_WORDS = 2000  # characters of a message


class Problem(Exception):
    """Why a request is not answered as it wished."""

    def __init__(self, status: HTTPStatus, kind: str, message: str, headers: Iterable[Header] = ()) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, tuple(headers)

    def members(self, request_id: str) -> dict[str, Any]:
        """What is told of it."""
        message = f"{escaped(self.message):.{_MOST_WORDS}}"
        return {"type": self.kind, "message": message, "request_id": request_id}


def problem_of(error: Exception) -> Problem:
    """Any error as a problem.  Of one that is none of ours only that it happened: its text may tell what is
    nobody's business, and stands in the log."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ReqplaneError):
        again = AGAIN if isinstance(error, _PASSES) else ()
        return Problem(status_of(error), type(error).__name__, str(error), again)
    log.error("a request failed in the front", exc_info=error)
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", "the front failed; its log says why")


def status_of(error: ReqplaneError) -> HTTPStatus:
    """The status of an error that comes before the first item."""
    if isinstance(error, DeliveryUnknown) and error.reason in ("timed_out", "never_called_home"):
        return HTTPStatus.GATEWAY_TIMEOUT
    if isinstance(error, PayloadError):  # the request's, or that of an item which is no JSON
        return HTTPStatus.BAD_REQUEST if error.index is None else HTTPStatus.INTERNAL_SERVER_ERROR
    for cls in type(error).__mro__:
        if cls in STATUSES:
            return STATUSES[cls]
    return HTTPStatus.INTERNAL_SERVER_ERROR
