"""The metadata of a context, which travels with its calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast


def checked_text(argument: str, value: object) -> str:
    """TypeError in Dynamo's words if it is no text."""
    if not isinstance(value, str):
        raise TypeError(
            f"argument '{argument}': '{type(value).__name__}' object cannot be converted to 'PyString'"
        )
    return value


def checked_metadata(metadata: Any) -> dict[str, str]:
    """A copy; TypeError if it is no dict of texts."""
    if not isinstance(metadata, dict):
        name = type(metadata).__name__
        raise TypeError(f"argument 'metadata': '{name}' object cannot be converted to 'PyDict'")
    texts = cast("dict[Any, Any]", metadata)
    return {checked_text("metadata", key): checked_text("metadata", text) for key, text in texts.items()}


class ContextMetadata:
    """Texts by name, in the names' order.  What is changed here is what the next call carries."""

    __slots__ = ("_texts",)

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    def __getitem__(self, key: str) -> str:
        return self._texts[checked_text("key", key)]

    def __setitem__(self, key: str, value: str) -> None:
        self._texts[checked_text("key", key)] = checked_text("value", value)

    def __delitem__(self, key: str) -> None:
        del self._texts[checked_text("key", key)]

    def __len__(self) -> int:
        return len(self._texts)

    def __contains__(self, key: str) -> bool:
        return checked_text("key", key) in self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def get(self, key: str, default: str | None = None) -> str | None:
        return self._texts.get(checked_text("key", key), default)

    def pop(self, key: str, default: str | None = None) -> str | None:
        """KeyError if it is not there and there is no default."""
        if default is not None and key not in self:
            return checked_text("default", default)
        return self._texts.pop(checked_text("key", key))

    def keys(self) -> list[str]:
        return sorted(self._texts)

    def values(self) -> list[str]:
        return [self._texts[key] for key in self.keys()]

    def items(self) -> list[tuple[str, str]]:
        return sorted(self._texts.items())

    def clear(self) -> None:
        self._texts.clear()

    def copy(self) -> dict[str, str]:
        return dict(self.items())

    def __repr__(self) -> str:
        return json.dumps(self.copy(), ensure_ascii=False)
