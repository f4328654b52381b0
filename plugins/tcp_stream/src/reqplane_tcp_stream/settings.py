"""The response listener's address."""

from __future__ import annotations

from reqplane.settings import host, port, reachable_host, setting, settings_class

FIRST_PORT = 9000


@settings_class
class TcpStreamSettings:
    """Where a frontend listens for workers that call home."""

    bind_host: str = setting("DYN_TCP_RESPONSE_STREAM_HOST", default="0.0.0.0", parse=host)
    bind_port: int | None = setting("DYN_TCP_RESPONSE_STREAM_PORT", default=None, parse=port)
    """None: the first free one from 9000 up."""
    advertise_host: str = setting("DYN_TCP_RESPONSE_STREAM_ADVERTISE_HOST", default="", parse=reachable_host)
