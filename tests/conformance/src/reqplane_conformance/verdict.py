"""How a case says what is wrong: what the subject did, what was expected, where to look."""

from __future__ import annotations

import os
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

from reqplane.errors import ReqplaneError

Error = TypeVar("Error", bound=ReqplaneError)

UNWRITTEN = "not written yet"
"""Stands for a case's id where the blame is on a function that does not exist so far."""
OPEN = "open"
"""And where nothing can be tried, because the subject can't be opened."""


class Nonconformance(AssertionError):
    """The subject broke a rule.

    `did` says what it did and `wanted` what was expected, each as the rest of a sentence; `look` says where
    its author will find the place, and `blame` is the id of the case that is about this rule, where that is
    not the case that found it.
    """

    def __init__(self, did: str, wanted: str, look: str = "", *, blame: str = "") -> None:
        super().__init__(did)
        self.did, self.wanted, self.look, self.blame = did, wanted, look, blame

    def text(self) -> str:
        """For people, in a few lines; with what was raised, where something was."""
        lines = [f"  it did:    {self.did}", f"  expected:  {self.wanted}"]
        if self.look:
            lines.append(f"  look at:   {self.look}")
        cause = self.__cause__
        if cause is not None:
            lines += ["", *("  " + line for line in _traceback(cause))]
        return "\n".join(lines)

    __str__ = text


def _traceback(error: BaseException) -> list[str]:
    """Without the suite's own frames, which come before those of its subject."""
    shown = traceback.TracebackException.from_exception(error)
    ours = os.path.dirname(__file__)
    kept = [frame for frame in shown.stack if not frame.filename.startswith(ours)]
    if kept:
        shown.stack = traceback.StackSummary.from_list(kept)
    return "".join(shown.format()).splitlines()


def check(holds: object, *, did: str, wanted: str, look: str = "", blame: str = "") -> None:
    """Nonconformance unless it holds."""
    __tracebackhide__ = True
    if not holds:
        raise Nonconformance(did, wanted, look, blame=blame)


def fail(did: str, wanted: str, look: str = "", *, blame: str = "") -> NoReturn:
    __tracebackhide__ = True
    raise Nonconformance(did, wanted, look, blame=blame)


class Caught:
    """What `expected` caught: `error`, once its block is over."""

    error: ReqplaneError


@contextmanager
def expected(
    *kinds: type[ReqplaneError], when: str, look: str = "", what: str = "send", blame: str = ""
) -> Generator[Caught]:
    """The block must raise one of these errors; anything else is a Nonconformance.

    `when` completes "wanted X …", as in "when nobody listens at the address".
    """
    __tracebackhide__ = True
    names = " or ".join(kind.__name__ for kind in kinds)
    caught = Caught()
    try:
        yield caught
    except kinds as error:
        caught.error = error
        return
    except Nonconformance:
        raise
    except Exception as error:
        shown = f"{what} raised {type(error).__name__}: {error}"
        raise Nonconformance(shown, f"{names} {when}", look, blame=blame) from error
    raise Nonconformance(f"{what} returned as if all were well", f"{names} {when}", look, blame=blame)
