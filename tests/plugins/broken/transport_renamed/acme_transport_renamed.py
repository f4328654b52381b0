from reqplane import hookimpl
from reqplane.interfaces import RequestTransport
from reqplane.model import Capabilities


class Transport(RequestTransport):
    name = "another"
    capabilities = Capabilities()
    max_frame_bytes = 1

    @classmethod
    async def open(cls, host):
        return cls()

    def target(self, instance):
        return None

    async def send(self, target, frame, headers, deadline):
        pass

    async def listen(self, served, accept):
        pass

    async def aclose(self):
        pass


@hookimpl
def reqplane_request_transports():
    return [Transport]
