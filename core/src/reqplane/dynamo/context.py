"""One call's context under Dynamo's names, around Reqplane's own."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Self

from reqplane.context import Context as OwnContext
from reqplane.dynamo.metadata import ContextMetadata, checked_metadata, checked_text
from reqplane.dynamo.span import SpanProxy

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}.*")
_FOR_ENGINES = ("traceparent", "tracestate", "x-request-id", "request-id")
"""The headers that an engine is to be given."""


class Context:
    """What belongs to one call.  A handler's may be passed on to the calls that it makes.

    `metadata`: texts by name.  TypeError if it is anything else, or if `id` is no text.
    """

    __slots__ = ("__weakref__", "_metadata", "own")

    def __init__(self, id: str | None = None, metadata: dict[str, str] | None = None) -> None:
        texts = {} if metadata is None else checked_metadata(metadata)
        self._around(OwnContext(None if id is None else checked_text("id", id)), texts)

    @classmethod
    def of(cls, own: OwnContext) -> Self:
        """The one of a call that has come in."""
        context = cls.__new__(cls)
        context._around(own, dict(own.metadata))
        return context

    def _around(self, own: OwnContext, texts: dict[str, str]) -> None:
        own.metadata = texts
        self.own = own
        """The same in Reqplane's own API."""
        self._metadata = ContextMetadata(texts)

    def id(self) -> str:
        return self.own.id

    # ── stopping ──

    def is_stopped(self) -> bool:
        return self.own.is_stopped()

    def is_killed(self) -> bool:
        return self.own.is_killed()

    def stop_generating(self) -> None:
        self.own.stop_generating()

    def async_killed_or_stopped(self) -> asyncio.Future[bool]:
        return asyncio.ensure_future(self._stopped())

    async def _stopped(self) -> bool:
        await self.own.stopped()
        return True

    def detached(self, id: str) -> Context:
        """One that is not stopped with this one; its trace and its metadata are as this one's are now."""
        other = Context(id, self._metadata.copy())
        other.own.headers = self.own.headers
        return other

    def notify_first_token(self) -> None:
        """Does nothing, as with Dynamo for requests that are not its own language models'."""

    # ── what travels ──

    @property
    def metadata(self) -> ContextMetadata:
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: dict[str, str]) -> None:
        texts = checked_metadata(metadata)
        self._metadata.clear()
        for key, text in texts.items():
            self._metadata[key] = text

    @property
    def trace_id(self) -> str | None:
        return self._trace()[0]

    @property
    def span_id(self) -> str | None:
        """The span of whoever called: Reqplane makes none of its own."""
        return self._trace()[1]

    @property
    def parent_span_id(self) -> str | None:
        """None: who called does not say."""
        return None

    def _trace(self) -> tuple[str | None, str | None]:
        found = _TRACEPARENT.fullmatch(self.own.headers.get("traceparent", ""))
        return (None, None) if found is None else (found[1], found[2])

    def trace_headers(self) -> dict[str, str] | None:
        """None without `traceparent`."""
        headers = self.own.headers
        if "traceparent" not in headers:
            return None
        return {name: headers[name] for name in _FOR_ENGINES if name in headers}

    def current_span(self) -> SpanProxy:
        return SpanProxy()

    def start_span(self, name: str, attrs: dict[str, Any] | None = None) -> SpanProxy:
        return SpanProxy()
