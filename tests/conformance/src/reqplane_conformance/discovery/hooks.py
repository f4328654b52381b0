"""What the author of a backend may have to say: how long leases are, and how its server is reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from urllib.parse import quote

from reqplane.interfaces import Discovery
from reqplane.wire.records import PREFIX

from reqplane_conformance.discovery.outside import OutsideWorkers
from reqplane_conformance.discovery.stage import DiscoveryStage
from reqplane_conformance.suite import Conformance
from reqplane_conformance.verdict import check


class DiscoverySuite(Conformance, suite=True):
    """The base of the groups of cases."""

    kind = "discovery backend"
    subject_name = "discovery"
    stage_class = DiscoveryStage
    discovery: ClassVar[type[Discovery] | None] = None
    lease_seconds: ClassVar[float] = 20.0
    """The longest that the record of a worker that vanished may stay, with the variables of `env`."""

    async def outside_worker(self, stage: DiscoveryStage, **env: str) -> Any:
        """A process of its own that registers workers."""
        return await OutsideWorkers.start(stage, env)

    async def vanish(self, worker: Any) -> None:
        """Let such a process be gone without a word."""
        worker.kill()

    @asynccontextmanager
    async def silent(self, worker: Any) -> AsyncGenerator[None]:
        """While the block runs, such a process does nothing, and is not gone either."""
        worker.freeze()
        try:
            yield
        finally:
            worker.thaw()

    async def put(self, stage: DiscoveryStage, key: str, value: str) -> None:
        """Write a record where the backend keeps them, as another program would; "" takes it away.

        As it is, what --put-record says is run, by a shell, with the case's variables and KEY, VALUE, and
        NAME, which is what follows v1/instances/ in the key, percent-encoded: good for a file's name.
        """
        command = stage.put_command
        if not command:
            stage.not_exercised("nothing says how a record is put there: see put and --put-record")
        name = quote(key.removeprefix(PREFIX), safe="")
        variables = {**stage.variables(), "KEY": key, "VALUE": value, "NAME": name}
        process = await asyncio.create_subprocess_shell(command, env=variables)
        check(
            await process.wait() == 0,
            did=f"the command of --put-record failed with status {process.returncode}: {command}",
            wanted="it writes the record VALUE under KEY, and takes it away where VALUE is empty",
        )

    async def restart_peer(self, stage: DiscoveryStage) -> None:
        """Restart the server that holds the records, at the address where it was."""
        await stage.restart_by_command()
