"""Our own planes conform."""

from __future__ import annotations

import pytest
from reqplane_conformance import RequestTransportConformance
from reqplane_conformance.request.stage import RequestStage
from reqplane_http.transport import HttpTransport
from reqplane_nats.transport import NatsTransport
from servers import Nats


class TestHttp(RequestTransportConformance):
    transport = HttpTransport


class TestNats(RequestTransportConformance):
    transport = NatsTransport

    @pytest.fixture(autouse=True)
    def _server(self, own_nats: Nats) -> None:
        self.env = {"NATS_SERVER": own_nats.url}
        self.server = own_nats

    async def restart_peer(self, stage: RequestStage) -> None:
        self.server.kill()
        self.server.start()
