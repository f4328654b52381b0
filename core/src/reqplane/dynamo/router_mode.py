"""How a client chooses a worker."""

from __future__ import annotations

import enum

from reqplane.dynamo.unsupported import not_supported


class RouterMode(enum.Enum):
    """Values are what DYN_ROUTER_MODE calls them."""

    RoundRobin = "round_robin"
    Random = "random"
    PowerOfTwoChoices = "power_of_two"
    KV = "kv"
    Direct = "direct"
    LeastLoaded = "least_loaded"
    DeviceAwareWeighted = "device_aware_weighted"

    def __repr__(self) -> str:
        return str(self)

    @property
    def policy(self) -> str:
        """The router policy's name; NotImplementedError if Reqplane has none of this sort."""
        if self in (RouterMode.KV, RouterMode.DeviceAwareWeighted):
            not_supported(
                str(self), "there are RoundRobin, Random, PowerOfTwoChoices, LeastLoaded and Direct"
            )
        return self.value
