"""All cases together: the class that tests are made from."""

from __future__ import annotations

from typing import Any, ClassVar

from reqplane.interfaces import RequestTransport

from reqplane_conformance.request.delivery import DeliveryCases
from reqplane_conformance.request.failure import FailureCases
from reqplane_conformance.request.frames import FrameCases
from reqplane_conformance.request.headers import HeaderCases
from reqplane_conformance.request.life import LifeCases
from reqplane_conformance.request.manners import MannersCases
from reqplane_conformance.request.network import NetworkCases
from reqplane_conformance.request.opening import OpeningCases
from reqplane_conformance.request.records import RecordCases
from reqplane_conformance.request.refusals import RefusalCases


class RequestTransportConformance(
    MannersCases,
    OpeningCases,
    LifeCases,
    NetworkCases,
    FailureCases,
    RefusalCases,
    HeaderCases,
    RecordCases,
    DeliveryCases,
    FrameCases,
    suite=True,
):
    """Tells whether a request transport is right.

    Set `transport`, and `env` where it needs variables.  `clogged`, `vanish` and `restart_peer` say how
    the other side is frozen, killed and brought back; the first two need no change where workers can be
    processes of their own.
    """

    transport: ClassVar[type[RequestTransport[Any]] | None] = None
