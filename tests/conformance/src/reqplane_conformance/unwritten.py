"""Finds out that a case failed because something of the subject is not written yet.

Then most cases fail, in many ways; the one thing to tell is what the NotImplementedError says.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import cast

from reqplane_conformance.verdict import UNWRITTEN, Nonconformance


@contextmanager
def noticing_unwritten() -> Generator[None]:
    """If the block fails, and behind it is a NotImplementedError, or one was logged: Nonconformance of it."""
    __tracebackhide__ = True
    logged = _Logged()
    logging.getLogger("reqplane").addHandler(logged)
    try:
        yield
    except Exception as error:
        missing = next(_behind(error), None) or logged.missing
        if missing is None:
            raise
        raise Nonconformance(
            f"it raised NotImplementedError: {missing}",
            "that this is written; most of the other failures come from it",
            _place(missing),
            blame=UNWRITTEN,
        ) from None
    finally:
        logging.getLogger("reqplane").removeHandler(logged)


class _Logged(logging.Handler):
    """Keeps the first NotImplementedError that was logged: by exc_info, or as an argument of the message."""

    missing: NotImplementedError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        raised = record.exc_info[1] if record.exc_info else None
        arguments = cast(object, record.args)
        values = (raised, *cast("tuple[object, ...]", arguments if isinstance(arguments, tuple) else ()))
        for value in values:
            if isinstance(value, BaseException) and self.missing is None:
                self.missing = next(_behind(value), None)


def _behind(error: BaseException | None) -> Iterator[NotImplementedError]:
    """The error, and what led to it: a chain that may end in itself."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, NotImplementedError):
            yield error
        error = error.__cause__ or error.__context__


def _place(error: BaseException) -> str:
    """Which line of which file raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{os.path.basename(frames[-1].filename)}, line {frames[-1].lineno}" if frames else ""
