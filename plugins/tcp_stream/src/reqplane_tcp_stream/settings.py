"""The response listener's address, and where workers may call home to."""

from __future__ import annotations

from reqplane.settings import host, port, reachable_host, setting, settings_class

from reqplane_tcp_stream.allow import Network, networks

FIRST_PORT = 9000


@settings_class
class TcpStreamSettings:
    """Where a frontend listens for workers that call home, and where a worker may do that."""

    bind_host: str = setting("DYN_TCP_RESPONSE_STREAM_HOST", default="0.0.0.0", parse=host)
    bind_port: int | None = setting("DYN_TCP_RESPONSE_STREAM_PORT", default=None, parse=port)
    """None: the first free one from 9000 up."""
    advertise_host: str = setting("DYN_TCP_RESPONSE_STREAM_ADVERTISE_HOST", default="", parse=reachable_host)
    allow: tuple[Network, ...] | None = setting("DYN_RESPONSE_ALLOW", default=None, parse=networks)
    """None: everywhere but link-local and metadata addresses."""
