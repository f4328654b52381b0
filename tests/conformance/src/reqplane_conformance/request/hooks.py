"""What the author of a transport may have to say: how its peers are killed, frozen and brought back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from reqplane.interfaces import RequestTransport

from reqplane_conformance.request.outside import OutsideWorker
from reqplane_conformance.request.stage import RequestStage
from reqplane_conformance.suite import Conformance


class RequestSuite(Conformance, suite=True):
    """The base of the groups of cases."""

    kind = "request plane"
    subject_name = "transport"
    stage_class = RequestStage
    transport: ClassVar[type[RequestTransport[Any]] | None] = None

    async def outside_worker(self, stage: RequestStage, **env: str) -> Any:
        """A worker in a process of its own.

        A transport that can't leave its process gives what behaves like one: `reqplane_conformance.memory`.
        """
        return await OutsideWorker.start(stage, env)

    async def vanish(self, worker: Any) -> None:
        """Let an outside worker be gone without a word."""
        worker.kill()

    @asynccontextmanager
    async def clogged(self, worker: Any) -> AsyncGenerator[None]:
        """While the block runs, an outside worker reads nothing, and is not gone either."""
        worker.freeze()
        try:
            yield
        finally:
            worker.thaw()

    async def restart_peer(self, stage: RequestStage) -> None:
        """Restart the server that frames go by, at the address where it was.

        NotExercised where there is none; then the case restarts the worker alone.
        """
        await stage.restart_by_command()
