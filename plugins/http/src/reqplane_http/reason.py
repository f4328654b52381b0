"""What an error of a library was about."""

from __future__ import annotations

from typing import cast

from reqplane.errors import describe


def root_of(error: BaseException) -> str:
    """What is at the bottom of a chain of exceptions: httpx's and those of what it stands on say less."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    if isinstance(error, BaseExceptionGroup):
        several = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return " / ".join(dict.fromkeys(map(describe, several)))
    return describe(error)
