"""All cases together: the class that tests are made from."""

from __future__ import annotations

from typing import ClassVar

from reqplane.interfaces import ResponseTransport

from reqplane_conformance.response.answers import AnswerCases
from reqplane_conformance.response.calls import CallCases
from reqplane_conformance.response.control import ControlCases
from reqplane_conformance.response.cuts import CutCases
from reqplane_conformance.response.flow import FlowCases
from reqplane_conformance.response.life import LifeCases
from reqplane_conformance.response.sharing import SharingCases
from reqplane_conformance.response.streamed import StreamedCases


class ResponseTransportConformance(
    LifeCases,
    StreamedCases,
    CutCases,
    FlowCases,
    ControlCases,
    CallCases,
    SharingCases,
    AnswerCases,
    suite=True,
):
    """Tells whether a response transport is right.

    Set `transport`, and `env` where it needs variables.  `clogged` and `vanish` say how the other side is
    frozen and killed; they need no change where it can be a process of its own.
    """

    transport: ClassVar[type[ResponseTransport] | None] = None
