"""What travels on a connection (Dynamo's, recorded from its wheels 0.7.1, 0.9.1 and 1.6.1).

A request:

    u16 length, path        whom it is for: what the worker's record says behind host:port/
    u16 length, headers     a JSON object of texts; not in the form that Dynamo 0.7 speaks
    u32 length, payload     the two-part frame

Its answer, in the order of the requests: u32 length and a text.  Length 0 accepts; a text refuses.
All numbers are big-endian.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from typing import cast

from reqplane.errors import WireError
from reqplane.model import Headers

SHORT = struct.Struct(">H")
LONG = struct.Struct(">I")
MOST_HEADERS = 0xFFFF
"""What the length in front of them can say."""

_PLAIN = re.compile(r"[ !#-\[\]-~]*")
"""What stands in JSON as it is."""


def path_block(path: str) -> bytes:
    """The beginning of every request for this path."""
    encoded = path.encode()
    return SHORT.pack(len(encoded)) + encoded


def headers_block(headers: Headers) -> bytes:
    """Headers with their length in front, names in lower case; WireError if they are too long."""
    members = [f'"{_text(name.lower())}":"{_text(value)}"' for name, value in headers.items()]
    encoded = f"{{{','.join(members)}}}".encode()
    if len(encoded) > MOST_HEADERS:
        raise WireError(f"the headers have {len(encoded)} bytes, at most {MOST_HEADERS} fit")
    return SHORT.pack(len(encoded)) + encoded


NO_HEADERS = headers_block({})


def _text(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text)[1:-1]


def read_headers(encoded: bytes) -> dict[str, object]:
    """Headers as they came; WireError if they are no JSON object."""
    try:
        members: object = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise WireError(f"the headers are not JSON: {error}") from None
    if not isinstance(members, Mapping):
        raise WireError(f"the headers are {members!r:.60}, wanted an object")
    return dict(cast("Mapping[str, object]", members))


def answer(text: bytes = b"") -> bytes:
    """The answer with this text; the empty one accepts."""
    return LONG.pack(len(text)) + text


ACK = answer()
