"""A worker in a process of its own."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reqplane.model import EndpointId, Instance

from reqplane_conformance.outside import OutsideProcess
from reqplane_conformance.request.stage import Got, instance_of

if TYPE_CHECKING:
    from reqplane_conformance.request.stage import RequestStage


class OutsideWorker(OutsideProcess):
    """Serves one endpoint in a child process; has the same face as a `stage.Worker`, as far as it goes.

    It can be told to "refuse" (code, text), to take long ("takes", seconds), to "drain" and to "close".  It
    "dies" in the accept of the frame number `count` from now, before that has returned; or, with `drains`,
    once it has returned and the listener has drained.
    """

    module = "reqplane_conformance.request.process"

    def __init__(self, stage: RequestStage, process: subprocess.Popen[bytes]) -> None:
        super().__init__(stage, process)
        self.got: list[Got] = []
        self.endpoint = EndpointId("conformance", "outside", "generate")
        self.record: Mapping[str, Any] = {}
        self.incarnation = 0

    def begun(self, said: dict[str, Any]) -> None:
        self.record, self.incarnation = said["record"], said["incarnation"]

    def heard(self, said: dict[str, Any]) -> bool:
        if said["what"] != "got":
            return False
        self.got.append(Got(base64.b64decode(said["frame"]), said["headers"], said["at"]))
        return True

    @property
    def instance(self) -> Instance:
        return instance_of(self.stage.subject.name, self.endpoint, self.incarnation, 0, self.record)

    @property
    def frames(self) -> list[bytes]:
        return [got.frame for got in self.got]
