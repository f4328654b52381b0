"""How a handler's exception travels: an annotated item with `event` "error".

    {"event": "error",
     "comment": ["a python exception was caught while processing the async generator: ValueError: early bad"],
                                                                              Dynamo 0.7 to 0.9 reads this
     "error": {"error_type": {"Backend": "InvalidArgument"}, "class": "InvalidRequest",
               "reason": "backend.invalid_argument", "message": "ValueError: early bad",
               "diagnostic": "ValueError: early bad"}}                        Dynamo 1.6 reads this

The three of `error_type`, `class` and `reason` belong together: Dynamo takes any other for `Internal`, and an
`error_type` that it does not know for a broken item.  Which exception has which was recorded from Dynamo
1.6.1, see `kind_of`.  Ours: `payload_index` in `error` says that an item could not be encoded, or (null) that
the request could not be decoded; with `"payload_in_request": true` an item of a request that is a stream
could not.  A traceback never leaves the worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from reqplane.errors import HandlerFailed, PayloadError, ReqplaneError

MAX_TEXT = 1000
"""Characters of an error's text, which stands three or four times in an error item."""
SHORT_TEXT = 75
"""The same where that is too much: so many fit into the smallest frame limit in any script and codec."""


_CAUGHT = "a python exception was caught while processing the async generator: "
"""What Dynamo 0.7 to 0.9 puts before an error's text; its callers see it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What sort of failure it is: the members `error_type`, `class` and `reason`."""

    error_type: str | Mapping[str, str]
    cls: str
    reason: str


def _backend(error_type: str, cls: str, reason: str) -> Kind:
    return Kind({"Backend": error_type}, cls, f"backend.{reason}")


UNKNOWN = _backend("Unknown", "Internal", "unknown")
INVALID_ARGUMENT = _backend("InvalidArgument", "InvalidRequest", "invalid_argument")
CANNOT_CONNECT = _backend("CannotConnect", "Unavailable", "cannot_connect")
DISCONNECTED = _backend("Disconnected", "Unavailable", "disconnected")
CONNECTION_TIMEOUT = _backend("ConnectionTimeout", "DeadlineExceeded", "connection_timeout")
CANCELLED = _backend("Cancelled", "Cancelled", "cancelled")
ENGINE_SHUTDOWN = _backend("EngineShutdown", "Unavailable", "engine_shutdown")
STREAM_INCOMPLETE = _backend("StreamIncomplete", "Unavailable", "stream_incomplete")
WORKER_UNAVAILABLE = Kind("WorkerUnavailable", "Unavailable", "backend.worker_unavailable")

_KINDS: tuple[tuple[type[BaseException], Kind], ...] = (
    (ValueError, INVALID_ARGUMENT),
    (TypeError, INVALID_ARGUMENT),
    (TimeoutError, CONNECTION_TIMEOUT),
    (ConnectionRefusedError, CANNOT_CONNECT),
    (ConnectionError, DISCONNECTED),
)


def kind_of(error: BaseException) -> Kind:
    """What Dynamo's worker tells of such an exception; its own `failure_kind`, a Kind, where it has one."""
    told = _told(error)
    if told is not None:
        return told
    if type(error).__name__ == "CancelledError":  # asyncio's, which the wire does without
        return CANCELLED
    return next((kind for cls, kind in _KINDS if isinstance(error, cls)), UNKNOWN)


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────


def error_fields(error: BaseException, *, uncarried: bool = False, most: int = MAX_TEXT) -> dict[str, Any]:
    """The annotated value that tells a caller of `error`, in texts of at most `most` characters.

    `uncarried`: it is the PayloadError of the request or of an item of this answer.
    """
    text = error_text(error, most)
    kind = kind_of(error)
    detail: dict[str, Any] = {
        "error_type": kind.error_type,
        "class": kind.cls,
        "reason": kind.reason,
        "message": text,
        "diagnostic": text,
    }
    if kind is INVALID_ARGUMENT and _told(error) is not None:
        detail["public"] = {"type": "message", "message": text}  # by this Dynamo's caller knows the type
    if uncarried and isinstance(error, PayloadError):
        detail["payload_index"] = error.index
        if error.in_request:
            detail["payload_in_request"] = True
        detail["message"] = _carriable(error.problem, most)
    return {"event": "error", "comment": [_CAUGHT + text], "error": detail}


def _told(error: BaseException) -> Kind | None:
    """What an exception says of itself."""
    kind = getattr(error, "failure_kind", None)
    return kind if isinstance(kind, Kind) else None


def error_text(error: BaseException, most: int = MAX_TEXT) -> str:
    """`Type: text`, at most `most` characters, and always something that every codec can carry.

    Of an exception with a `failure_kind` its `failure_text`, or else its text alone: so Dynamo does with
    those of its own.
    """
    name = type(error).__qualname__
    try:
        text = (
            f"{name}: {error}" if _told(error) is None else getattr(error, "failure_text", None) or str(error)
        )
    except Exception:  # its own text fails
        text = f"{name}: (its text can't be shown)"
    return _carriable(text, most)


def _carriable(text: str, most: int) -> str:
    return text[:most].encode(errors="backslashreplace").decode()


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────


def is_error(fields: Mapping[str, Any]) -> bool:
    return fields.get("event") == "error"


def error_from(fields: Mapping[str, Any], items_received: int) -> ReqplaneError:
    """The error that a caller gets for such an item."""
    told = fields.get("error")
    detail: Mapping[str, Any] = cast("Mapping[str, Any]", told) if isinstance(told, Mapping) else {}
    message = detail.get("message")
    if not isinstance(message, str):
        message = _comments(fields)
        detail = {**detail, "message": message}
    index = detail.get("payload_index", ...)
    if index is None or isinstance(index, int):
        return PayloadError(message, index=index, in_request=detail.get("payload_in_request") is True)
    name, colon, _ = message.partition(":")
    name = name.rpartition(".")[2]  # of a class within another
    error_type = name if colon and name.isidentifier() else None
    return HandlerFailed(message, error_type=error_type, items_received=items_received, detail=detail)


def _comments(fields: Mapping[str, Any]) -> str:
    comments: object = fields.get("comment")
    texts: list[object] = cast("list[object]", comments) if isinstance(comments, list) else []
    said = [text.removeprefix(_CAUGHT) for text in texts if isinstance(text, str)]
    return ", ".join(said) or "the worker did not say why"
