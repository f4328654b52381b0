"""All cases together: the class that tests are made from."""

from __future__ import annotations

from typing import ClassVar

from reqplane.interfaces import Discovery

from reqplane_conformance.discovery.foreign import ForeignCases
from reqplane_conformance.discovery.leases import LeaseCases
from reqplane_conformance.discovery.life import LifeCases
from reqplane_conformance.discovery.numbers import NumberCases
from reqplane_conformance.discovery.records import RecordCases
from reqplane_conformance.discovery.watching import WatchCases


class DiscoveryConformance(
    LifeCases, ForeignCases, LeaseCases, WatchCases, RecordCases, NumberCases, suite=True
):
    """Tells whether a discovery backend is right.

    Set `discovery`, `env` where it needs variables, and `lease_seconds` where leases are longer than that.
    `put` says how another program would write a record, `restart_peer` how the server is restarted.
    """

    discovery: ClassVar[type[Discovery] | None] = None
