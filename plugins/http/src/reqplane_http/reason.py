"""Why a connection could not be made, in the system's words."""

from __future__ import annotations

import os
import re
import socket

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
