"""Header blocks: `NATS/1.0`, perhaps a status, then lines as in HTTP."""

from __future__ import annotations

from collections.abc import Mapping

_FIRST = b"NATS/1.0"


def encode(headers: Mapping[str, str], status: str = "") -> bytes:
    """A block of these headers; what a line can't hold is left out."""
    lines = [f"{_FIRST.decode()} {status}".rstrip()]
    lines += [f"{name}: {value}" for name, value in headers.items() if _fits(value)]
    return "\r\n".join([*lines, "\r\n"]).encode()


def decode(block: bytes) -> tuple[str, dict[str, str]]:
    """The status ("" if it has none) and the headers, names in lower case; of a name that is there twice
    the first."""
    first, *lines = block.split(b"\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            key = name.strip().decode("latin-1").lower()
            headers.setdefault(key, value.strip().decode("utf-8", "replace"))
    return first[len(_FIRST) :].strip().decode("latin-1"), headers


def _fits(value: str) -> bool:
    return value.isascii() and value.isprintable() and value == value.strip()
