"""What may be shown in a log, on a terminal or in an error: no control characters, no secrets.

Names, ids and texts that other processes sent can hold anything.  Written to a terminal as they are, an
escape sequence could rewrite what stands there and a line break could forge a line of a log.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
import unicodedata
from collections.abc import Callable
from types import TracebackType

_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode's categories of what is not printed but does something: control characters, format characters
(those that turn the direction of writing among them), halves of characters, line and paragraph breaks."""

HIDDEN = "***"
"""What is shown instead of a secret."""


def escaped(text: str, keep: str = "\n\t") -> str:
    """The text with whatever does something, and is not in `keep`, written as `\\x1b` or `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(_each(text, keep, _as_python))


def escaped_json(document: str) -> str:
    """A JSON document with the same escaped as JSON does; its own line breaks stay."""
    if document.isprintable():
        return document
    return "".join(_each(document, "\n", _as_json))


def _each(text: str, keep: str, escape: Callable[[str], str]) -> list[str]:
    return [escape(one) if one not in keep and _is_unsafe(one) else one for one in text]


def _is_unsafe(character: str) -> bool:
    return not character.isprintable() and unicodedata.category(character) in _UNSAFE


def _as_python(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _as_json(character: str) -> str:
    return json.dumps(character)[1:-1]


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────────


def masked(value: str) -> str:
    """A setting's value without the user and password that its URLs may hold."""
    before, at, host = value.rpartition("@")
    if not at or value.startswith(("/", ".", "~")):  # a path may hold an @
        return value
    scheme, colon, _ = before.partition("://")
    return f"{scheme}{colon}{HIDDEN}@{host}" if colon else f"{HIDDEN}@{host}"


def masked_text(text: str) -> str:
    """A sentence with the URLs in it treated the same way."""
    return re.sub(r"://\S*@", f"://{HIDDEN}@", text)


# ── logs ────────────────────────────────────────────────────────────────────────────────────────────


def escape_record(record: logging.LogRecord) -> bool:
    """A filter that drops nothing: it escapes a log record's text, and its traceback's but for line breaks.

    What needs no escaping is left alone, so that handlers which look at a message's arguments find them.
    """
    try:
        message = record.getMessage()
    except Exception:  # arguments that don't fit: logging itself says so, later
        return True
    if (shown := escaped(message, keep="")) != message:
        record.msg, record.args = shown, ()
    if record.exc_info and not record.exc_text:
        _escape_traceback(record, record.exc_info)
    return True


_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def _escape_traceback(record: logging.LogRecord, exc_info: _ExcInfo) -> None:
    text = "".join(traceback.format_exception(exc_info[1])).rstrip("\n")
    shown = escaped(text)
    if shown != text:
        # Formatters print `exc_text`; those that would rather format the exception themselves must not.
        record.exc_text, record.exc_info = shown, None


class _Escaping(logging.Handler):
    """Prints nothing.  It stands before the handlers that do, and hears of child loggers' records too."""

    def emit(self, record: logging.LogRecord) -> None:
        escape_record(record)


def escape_log(log: logging.Logger) -> None:
    """Let everything be escaped that this logger and its children log, whoever handles it; idempotent.

    A filter hears only what is logged to its own logger, a handler only what gets as far as that: so both.
    """
    children = [one for name, one in log.manager.loggerDict.items() if name.startswith(f"{log.name}.")]
    for logger in (log, *children):
        if isinstance(logger, logging.Logger):
            logger.addFilter(escape_record)
    if not any(isinstance(handler, _Escaping) for handler in log.handlers):
        log.handlers.insert(0, _Escaping())
