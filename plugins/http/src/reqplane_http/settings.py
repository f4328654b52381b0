"""The variables of the http plane."""

from __future__ import annotations

from reqplane.settings import (
    at_least,
    host,
    port,
    reachable_address,
    root_path,
    seconds,
    setting,
    settings_class,
)

_DYNAMOS_ROOT = "/v1/rpc"


@settings_class
class HttpSettings:
    """What the http plane reads."""

    host: str = setting("DYN_HTTP_RPC_HOST", default="0.0.0.0", parse=host)
    port: int = setting("DYN_HTTP_RPC_PORT", default=8081, parse=port)
    root_path: str = setting("DYN_HTTP_RPC_ROOT_PATH", default="/v1/dynamo", parse=root_path)
    advertise_host: str = setting("DYN_HTTP_RPC_ADVERTISE_HOST", default="", parse=reachable_address)
    request_timeout: float = setting("DYN_HTTP_REQUEST_TIMEOUT", default=5.0, parse=seconds)
    pool_max_idle_per_host: int = setting("DYN_HTTP2_POOL_MAX_IDLE_PER_HOST", default=100, parse=at_least(1))
    pool_idle_timeout: float = setting("DYN_HTTP2_POOL_IDLE_TIMEOUT_SECS", default=90.0, parse=seconds)
    keep_alive_interval: float = setting("DYN_HTTP2_KEEP_ALIVE_INTERVAL_SECS", default=30.0, parse=seconds)
    keep_alive_timeout: float = setting("DYN_HTTP2_KEEP_ALIVE_TIMEOUT_SECS", default=10.0, parse=seconds)

    @property
    def dynamos_root_path(self) -> str:
        """The same for the paths by which Dynamo knows endpoints; its default is another one."""
        return _DYNAMOS_ROOT if self.root_path == HttpSettings().root_path else self.root_path
