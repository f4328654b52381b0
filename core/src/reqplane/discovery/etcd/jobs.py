"""What the event loop asks of etcd's thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from reqplane.discovery.etcd.registry import Registry
from reqplane.discovery.etcd.seam import Client

Work: TypeAlias = Callable[[Client, Registry], Any]


@dataclass(eq=False, slots=True)
class Job:
    """Something that is asked for.  One that is `lasting` is done even if nobody waits for it any more;
    what was done for somebody who has left is handed to `undo`."""

    work: Work
    lasting: bool = False
    undo: Callable[[Any], None] | None = None
    answer: Future[Any] = field(default_factory=Future[Any])

    def tell(self, result: Any) -> None:
        try:
            self.answer.set_result(result)
        except InvalidStateError:
            if self.undo is not None:
                self.undo(result)

    def fail(self, error: Exception) -> None:
        with suppress(InvalidStateError):
            self.answer.set_exception(error)

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        if not self.answer.cancel() and self.undo is not None and self.answer.exception() is None:
            self.undo(self.answer.result())
