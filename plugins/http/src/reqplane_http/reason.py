"""Why a connection could not be made or was lost, in the system's words."""

from __future__ import annotations

import os
import re
import socket
from typing import cast

from reqplane.errors import describe


def reason(error: OSError) -> str:
    """ "Connection refused", where asyncio says "Connect call failed"."""
    if isinstance(error, socket.gaierror):
        return describe(error)
    if error.errno:
        return os.strerror(error.errno)
    # A name with several addresses: asyncio puts what each of them met into one text.
    numbers = dict.fromkeys(re.findall(r"\[Errno (\d+)\]", str(error)))
    return " / ".join(os.strerror(int(number)) for number in numbers) or describe(error)


def root_of(error: BaseException) -> str:
    """What is at the bottom of a chain of exceptions: httpx's and those of what it stands on say less."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    if isinstance(error, BaseExceptionGroup):
        several = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return " / ".join(dict.fromkeys(map(describe, several)))
    return describe(error)
