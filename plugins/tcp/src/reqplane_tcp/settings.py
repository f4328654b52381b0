"""The variables of the tcp plane.  The names are Dynamo's, but for the address that others are told."""

from __future__ import annotations

from typing import NoReturn

from reqplane.settings import host, port, reachable_address, seconds, setting, settings_class


def _no_tls(raw: str) -> NoReturn:
    """Who sets these wants nothing to be sent in the clear."""
    raise ValueError("must be unset: Dynamo encrypts with it, and this plane has no TLS")


@settings_class
class TcpSettings:
    """What the tcp plane reads."""

    host: str = setting("DYN_TCP_RPC_HOST", default="0.0.0.0", parse=host)
    port: int = setting("DYN_TCP_RPC_PORT", default=0, parse=port)
    advertise_host: str = setting("DYN_TCP_RPC_ADVERTISE_HOST", default="", parse=reachable_address)
    request_timeout: float = setting("DYN_TCP_REQUEST_TIMEOUT", default=5.0, parse=seconds)
    connect_timeout: float = setting("DYN_TCP_CONNECT_TIMEOUT", default=5.0, parse=seconds)
    idle_ttl: float = setting("DYN_TCP_HOST_IDLE_TTL_SECS", default=300.0, parse=seconds)
    tls_cert_path: str = setting("DYN_TCP_TLS_CERT_PATH", default="", parse=_no_tls)
    tls_key_path: str = setting("DYN_TCP_TLS_KEY_PATH", default="", parse=_no_tls)
    tls_client_ca_cert_path: str = setting("DYN_TCP_TLS_CLIENT_CA_CERT_PATH", default="", parse=_no_tls)
    tls_ca_cert_path: str = setting("DYN_TCP_TLS_CA_CERT_PATH", default="", parse=_no_tls)
    tls_client_cert_path: str = setting("DYN_TCP_TLS_CLIENT_CERT_PATH", default="", parse=_no_tls)
    tls_client_key_path: str = setting("DYN_TCP_TLS_CLIENT_KEY_PATH", default="", parse=_no_tls)
