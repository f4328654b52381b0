"""An item with what came beside its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class AnnotatedItem:
    """What `annotated=True` yields.  Names are Dynamo's."""

    __slots__ = ("members",)

    def __init__(self, members: Mapping[str, Any]) -> None:
        self.members = members

    def data(self) -> Any:
        """The item's value; None if it has none."""
        return self.members.get("data")

    def event(self) -> str | None:
        return self.members.get("event")

    def comments(self) -> list[str]:
        return list(self.members.get("comment") or ())

    def id(self) -> str | None:
        return self.members.get("id")

    def __repr__(self) -> str:
        return f"AnnotatedItem({dict(self.members)!r})"
