"""Parts of an answer: what they are called in messages, and whether they are those that were wanted."""

from __future__ import annotations

from collections.abc import Sequence

from reqplane.model import Annotated, Broken, End, Part, Prologue

from reqplane_conformance.verdict import fail

_EACH = "answers.each_item_as_it_was_written"
_FRAMING = "how items are framed where they are written, and taken apart where they are read"
_FEW = 20
"""Bytes of an item that messages show."""


def check_parts(got: Sequence[Part], wanted: Sequence[Part], look: str = _FRAMING, blame: str = "") -> None:
    """Nonconformance unless these parts came."""
    if same(got, wanted):
        return
    came, written = _items(got), _items(wanted)
    did = f"received {shown(got)}"
    if len(came) != len(written) and b"".join(came) == b"".join(written):
        how = "merged" if len(came) < len(written) else "split"
        did, blame = f"{did}: items were {how}, or empty ones lost or made up", blame or _EACH
    elif came != written and sorted(came) == sorted(written):
        did = f"{did}: the items that were written, in another order"
    fail(did, shown(wanted), look, blame=blame)


def _items(parts: Sequence[Part]) -> list[bytes]:
    return [bytes(part) for part in parts if isinstance(part, bytes | bytearray)]


def is_last(part: Part) -> bool:
    """Whether nothing may follow."""
    return isinstance(part, End | Broken) or (isinstance(part, Prologue) and part.error is not None)


def shown(parts: Sequence[Part]) -> str:
    """Parts in a few words."""
    texts = [shown_one(part) for part in parts[:8]]
    if len(parts) > 8:
        texts[4:] = [f"… {len(parts) - 7} more …", *(shown_one(part) for part in parts[-3:])]
    return f"[{', '.join(texts)}]"


def shown_one(part: Part) -> str:
    """One of them."""
    if isinstance(part, bytes | bytearray) and len(part) > _FEW:
        return f"{bytes(part[:_FEW])!r}… ({len(part)} bytes)"
    return repr(bytes(part) if isinstance(part, bytearray) else part)


def same(got: Sequence[Part], wanted: Sequence[Part]) -> bool:
    """Whether these are the parts wanted; where a Broken is wanted, its reason is free."""
    return len(got) == len(wanted) and all(map(_same, got, wanted))


def _same(got: Part, wanted: Part) -> bool:
    if isinstance(wanted, Broken):
        return isinstance(got, Broken)
    if isinstance(wanted, Annotated):
        return isinstance(got, Annotated) and bytes(got.body) == bytes(wanted.body)
    if isinstance(wanted, End):
        return isinstance(got, End)
    return got == wanted
