"""What a call with `annotated=True` yields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


class Annotated:
    """An item with what came beside its data; each part is None where there is none."""

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._members = members

    def data(self) -> Any:
        return self._members.get("data")

    def event(self) -> str | None:
        return self._members.get("event")

    def comments(self) -> list[str] | None:
        comments: object = self._members.get("comment")
        return None if comments is None else list(cast("list[str]", comments))

    def id(self) -> str | None:
        return self._members.get("id")

    def is_error(self) -> bool:
        """False: a call raises what a worker tells of its failure."""
        return self._members.get("event") == "error"

    def __repr__(self) -> str:
        data = self.data()
        shown = "<no_data>" if data is None else repr(data)
        comments = ", ".join(f'"{text}"' for text in self.comments() or ())
        return f"Annotated(data={shown}, event={self.event()}, comment=[{comments}], id={self.id()})"
