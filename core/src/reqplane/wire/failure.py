"""How a handler's exception travels: an annotated item with `event` "error".

    {"event": "error",
     "comment": ["ValueError: early bad"],                                    Dynamo 0.7 reads this
     "error": {"error_type": {"Backend": "InvalidArgument"}, "class": "InvalidRequest",
               "reason": "backend.invalid_argument", "message": "ValueError: early bad",
               "diagnostic": "ValueError: early bad"}}                        Dynamo 1.6 reads this

ValueError gives the above, any other exception `Unknown`, `Internal`, `backend.unknown`; recorded from
Dynamo.  Ours: `payload_index` in `error` says that an item could not be encoded, or (null) that the request
could not be decoded.  A traceback never leaves the worker.  Dynamo 0.7 to 0.9 put words of their own in front
of the exception, which are taken off when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from reqplane.errors import HandlerFailed, PayloadError, ReqplaneError

MAX_TEXT = 1000
"""Characters of an error's text, which stands three times in an error item."""
SHORT_TEXT = 100
"""The same where that is too much: so many fit into the smallest frame limit in any script and codec."""


def error_fields(error: BaseException, *, uncarried: bool = False, most: int = MAX_TEXT) -> dict[str, Any]:
    """The annotated value that tells a caller of `error`, in texts of at most `most` characters.

    `uncarried`: it is the PayloadError of the request or of an item of this answer.
    """
    text = error_text(error, most)
    mine = isinstance(error, ValueError)
    detail: dict[str, Any] = {
        "error_type": {"Backend": "InvalidArgument" if mine else "Unknown"},
        "class": "InvalidRequest" if mine else "Internal",
        "reason": "backend.invalid_argument" if mine else "backend.unknown",
        "message": text,
        "diagnostic": text,
    }
    if uncarried and isinstance(error, PayloadError):
        detail["payload_index"] = error.index
        detail["message"] = _carriable(error.problem, most)
    return {"event": "error", "comment": [text], "error": detail}


def error_text(error: BaseException, most: int = MAX_TEXT) -> str:
    """`Type: text`, at most `most` characters, and always something that every codec can carry."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # its own text fails
        text = f"{type(error).__name__}: (its text can't be shown)"
    return _carriable(text, most)


def _carriable(text: str, most: int) -> str:
    return text[:most].encode(errors="backslashreplace").decode()


_DYNAMOS_WORDS = "a python exception was caught while processing the async generator: "


def is_error(fields: Mapping[str, Any]) -> bool:
    return fields.get("event") == "error"


def error_from(fields: Mapping[str, Any], items_received: int) -> ReqplaneError:
    """The error that a caller gets for such an item."""
    detail = fields.get("error")
    members: Mapping[str, Any] = cast("Mapping[str, Any]", detail) if isinstance(detail, Mapping) else {}
    message = members.get("message")
    if not isinstance(message, str):
        message = _first_comment(fields)
    index = members.get("payload_index", ...)
    if index is None or isinstance(index, int):
        return PayloadError(message, index=index)
    message = message.removeprefix(_DYNAMOS_WORDS)
    kind, colon, _ = message.partition(":")
    error_type = kind if colon and kind.isidentifier() else None
    return HandlerFailed(message, error_type=error_type, items_received=items_received)


def _first_comment(fields: Mapping[str, Any]) -> str:
    comments: object = fields.get("comment")
    if isinstance(comments, list):
        for text in cast("list[object]", comments):
            if isinstance(text, str):
                return text
    return "the worker did not say why"
