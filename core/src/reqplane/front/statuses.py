"""Which HTTP status an error has."""

from __future__ import annotations

from http import HTTPStatus

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
    UnknownEndpoint,
    WorkerBusy,
    WorkerDraining,
)

_STATUSES: dict[type[ReqplaneError], HTTPStatus] = {
    NoInstances: HTTPStatus.SERVICE_UNAVAILABLE,
    WorkerBusy: HTTPStatus.SERVICE_UNAVAILABLE,
    WorkerDraining: HTTPStatus.SERVICE_UNAVAILABLE,
    DiscoveryError: HTTPStatus.SERVICE_UNAVAILABLE,
    FrameTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NotAllowed: HTTPStatus.FORBIDDEN,
    CannotConnect: HTTPStatus.BAD_GATEWAY,
    UnknownEndpoint: HTTPStatus.BAD_GATEWAY,
    RequestRefused: HTTPStatus.BAD_GATEWAY,
    DeliveryUnknown: HTTPStatus.BAD_GATEWAY,
    StreamBroken: HTTPStatus.BAD_GATEWAY,
    DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    HandlerFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status_of(error: BaseException) -> HTTPStatus:
    """The status of an error that came before the first item."""
    if isinstance(error, DeliveryUnknown) and error.reason in ("timed_out", "never_called_home"):
        return HTTPStatus.GATEWAY_TIMEOUT
    if isinstance(error, PayloadError):  # the request's, or that of an item which is no JSON
        return HTTPStatus.BAD_REQUEST if error.index is None else HTTPStatus.INTERNAL_SERVER_ERROR
    for cls in type(error).__mro__:
        if cls in _STATUSES:
            return _STATUSES[cls]
    return HTTPStatus.INTERNAL_SERVER_ERROR
