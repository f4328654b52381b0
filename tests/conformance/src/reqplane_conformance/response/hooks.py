"""What the author of a response transport may have to say: how its peers are killed and frozen."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from reqplane.interfaces import ResponseTransport

from reqplane_conformance.response.outside import OutsideCaller, OutsideFrontend
from reqplane_conformance.response.stage import ResponseStage
from reqplane_conformance.suite import Conformance


class ResponseSuite(Conformance, suite=True):
    """The base of the groups of cases."""

    kind = "response plane"
    subject_name = "transport"
    stage_class = ResponseStage
    transport: ClassVar[type[ResponseTransport] | None] = None

    async def outside_worker(self, stage: ResponseStage, **limits: float) -> Any:
        """A worker in a process of its own, opened with these Limits.

        A transport that can't leave its process gives what behaves like one: `reqplane_conformance.memory`.
        """
        return await OutsideCaller.begin(stage, {}, limits)

    async def outside_frontend(self, stage: ResponseStage, env: Mapping[str, str], **limits: float) -> Any:
        """A frontend in a process of its own."""
        return await OutsideFrontend.begin(stage, env, limits)

    async def vanish(self, process: Any) -> None:
        """Let an outside process be gone without a word."""
        process.kill()

    @asynccontextmanager
    async def clogged(self, process: Any) -> AsyncGenerator[None]:
        """While the block runs, an outside process reads and says nothing, and is not gone either."""
        process.freeze()
        try:
            yield
        finally:
            process.thaw()
