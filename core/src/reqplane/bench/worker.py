"""The worker that `reqplane bench` starts."""

from __future__ import annotations

import reqplane
from reqplane.bench.workloads import handler
from reqplane.cli.running import leave_at_eof


async def serve(path: str) -> int:
    """Serve the loads until standard input ends: whoever started us has the other end of it."""
    async with reqplane.connect() as runtime:
        leave_at_eof(runtime)
        await runtime.endpoint(path).serve_endpoint(handler)
    return 0
