"""Spans, which are not recorded here: Dynamo's proxy is silent as well where there is no tracing."""

from __future__ import annotations

from typing import Any, Self


class SpanProxy:
    """Takes what a program tells of a span, and keeps nothing of it."""

    __slots__ = ()

    def set_attribute(self, key: str, value: Any) -> None: ...

    def add_event(self, name: str, attrs: dict[str, Any] | None = None) -> None: ...

    def set_status(self, status: str, description: str | None = None) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> bool:
        return False
