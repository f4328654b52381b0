"""Observers look on: what one of them does wrong is logged, and the call or the handler goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec

from reqplane.interfaces import Observer
from reqplane.model import EndpointId, Instance

P = ParamSpec("P")

log = logging.getLogger("reqplane")


class Guarded(Observer):
    """Another observer, whose exceptions end here.  Each method complains once."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._complained: set[str] = set()

    def call_started(self, request_id: str, instance: Instance, plane: str) -> None:
        self._tell(self._observer.call_started, request_id, instance, plane)

    def call_finished(self, request_id: str, items: int, error: BaseException | None) -> None:
        self._tell(self._observer.call_finished, request_id, items, error)

    def handler_started(self, request_id: str, endpoint: EndpointId) -> None:
        self._tell(self._observer.handler_started, request_id, endpoint)

    def handler_finished(self, request_id: str, items: int, error: BaseException | None) -> None:
        self._tell(self._observer.handler_finished, request_id, items, error)

    def _tell(self, method: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:
            if method.__name__ not in self._complained:
                self._complained.add(method.__name__)
                log.exception("the observer %s failed", type(self._observer).__qualname__)
