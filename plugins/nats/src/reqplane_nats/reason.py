"""Why a connection could not be made or was lost, in few words."""

from __future__ import annotations

import re
import ssl

from reqplane.errors import describe


def words(error: BaseException) -> str:
    """What an error says, without what its library puts around it."""
    if isinstance(error, ssl.SSLError):  # its errno is none of the system's
        return re.sub(r"\s*\(_ssl\.c:\d+\)", "", error.strerror or str(error)) or type(error).__name__
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and not error.errno:
        # A name with several addresses: asyncio puts what each of them met into one text.
        met = dict.fromkeys(re.findall(r"\[Errno \d+\] ([^\[,(]+)", str(error)))
        return " / ".join(one.strip() for one in met) or describe(error)
    return describe(error).removeprefix("nats: ").strip("'")
