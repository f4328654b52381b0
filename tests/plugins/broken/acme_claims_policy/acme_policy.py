from reqplane import hookimpl
from reqplane.interfaces import RouterPolicy


class Policy(RouterPolicy):
    name = "claimed"

    def changed(self, added, removed):
        pass

    def pick(self, request, avoid):
        return None


@hookimpl
def reqplane_router_policies():
    return [Policy]
