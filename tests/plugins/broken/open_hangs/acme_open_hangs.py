import asyncio

from reqplane import hookimpl
from reqplane.interfaces import Discovery


class Backend(Discovery):
    name = "open_hangs"

    @classmethod
    async def open(cls, host):
        await asyncio.Event().wait()

    async def reserve(self, endpoint, incarnation):
        pass

    def watch(self, endpoint):
        pass

    async def aclose(self):
        pass


@hookimpl
def reqplane_discovery_backends():
    return [Backend]
