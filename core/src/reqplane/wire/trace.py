"""Headers that travel with a request from end to end, on every plane."""

from __future__ import annotations

import re
from collections.abc import Mapping

CARRIED = ("traceparent", "tracestate", "x-request-id", "x-dynamo-request-id", "request-id")
"""W3C Trace Context and the request ids that Dynamo knows."""

INSTANCE = "x-reqplane-instance"
"""`<id>/<incarnation>`: only this worker may take the request."""

REFUSAL = "x-reqplane-refusal"
"""A refusal's code, on the way back."""

_KNOWN = frozenset((*CARRIED, INSTANCE))
_MAX_VALUE = 1024
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def carried(headers: Mapping[str, object]) -> dict[str, str]:
    """What of `headers` travels on, names in lower case.

    Values longer than 1 KiB or with anything but visible ASCII (and spaces between) are left out: they
    could not be carried by every plane.
    """
    return {
        name.lower(): value
        for name, value in headers.items()
        if name.lower() in _KNOWN and isinstance(value, str) and _carriable(value)
    }


def _carriable(value: str) -> bool:
    return len(value) <= _MAX_VALUE and _VALUE.fullmatch(value) is not None
