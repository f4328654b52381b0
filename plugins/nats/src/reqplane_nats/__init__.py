"""Reqplane's nats request plane.

`PushEndpoint` is the worker's side, one endpoint as a NATS subject; `NatsTransport` is the plane.
"""

from reqplane_nats.listener import PushEndpoint
from reqplane_nats.transport import NatsTransport

__all__ = ["NatsTransport", "PushEndpoint"]
