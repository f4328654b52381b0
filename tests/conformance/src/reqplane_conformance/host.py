"""The host that subjects are opened on."""

from __future__ import annotations

from collections.abc import Mapping

from reqplane.host import RuntimeHost
from reqplane.model import Limits, Load
from reqplane.settings import Settings, load


class SuiteHost(RuntimeHost):
    """The runtime's own host, which keeps the load reports.  Made within a running loop."""

    def __init__(self, env: Mapping[str, str], limits: Limits) -> None:
        super().__init__(env, limits, dynamo=load(Settings, env).dynamo)
        self.reports: list[tuple[int, Load]] = []

    def reported(self, incarnation: int, load: Load) -> None:
        self.reports.append((incarnation, load))
