"""What of Dynamo's API can only say that it is not supported: what never returns."""

from __future__ import annotations

from typing import Any


def is_missing(cls: type[Any], name: str) -> bool:
    member: Any = vars(cls).get(name)
    function = member.fget if isinstance(member, property) else member
    return getattr(function, "__annotations__", {}).get("return") == "NoReturn"
