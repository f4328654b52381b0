"""What must hold for any bytes: only the documented errors, the same result however the bytes are split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from reqplane.errors import PayloadError, WireError

LIMIT = 96 * 1024
"""The limit on a frame, in bytes, under which everything here runs."""

_LONGEST_TEXT = 8000

Value = TypeVar("Value")


def tried(call: Callable[[], Value]) -> Value | str:
    """The result, or the text of the error; any other error than ours is a find."""
    try:
        return call()
    except (WireError, PayloadError) as error:
        return shown(error)


def shown(error: Exception | None) -> str:
    """An error's text, which ends in logs and on terminals."""
    text = str(error)
    assert text.isprintable(), f"an error's text has control characters: {text!r}"
    assert len(text) < _LONGEST_TEXT, f"an error's text has {len(text)} characters"
    return text


def same_however_split(data: bytes, outcome: Callable[[Iterable[bytes]], Value]) -> Value:
    """The outcome, which is the same for all `splits`."""
    first, *others = [outcome(parts) for parts in splits(data)]
    assert all(other == first for other in others)
    return first


def splits(data: bytes) -> Iterator[Iterable[bytes]]:
    """The whole, pieces that the first byte chooses, and single bytes if they are few."""
    pattern, data = data[0] if data else 0, data[1:]
    yield [data]
    yield _pieces(data, pattern)
    if len(data) <= 200:
        yield _pieces(data, 0)


def _pieces(data: bytes, pattern: int) -> Iterator[bytes]:
    """Pieces of 1 to 64 bytes, the next size computed from the last."""
    size, at = pattern % 64 + 1, 0
    while at < len(data):
        yield data[at : at + size]
        at += size
        size = 1 if pattern == 0 else (size * 37 + pattern) % 64 + 1
