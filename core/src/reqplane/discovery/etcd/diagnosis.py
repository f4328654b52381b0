"""A look at a member that gRPC could not reach, because gRPC's own words rarely say what to do."""

from __future__ import annotations

import socket
import ssl

from reqplane.discovery.etcd.seam import Denied
from reqplane.discovery.etcd.settings import Address, EtcdSettings

_LIMIT = 0.5
"""Seconds for each step."""
_NO_TLS = Denied("ETCD_ENDPOINTS", "it does not speak TLS there: write http:// instead of https://")


def of_tls(address: Address, settings: EtcdSettings) -> Denied | None:
    """Why TLS does not come about; None if that is not the trouble."""
    try:
        context = settings.tls()
    except (OSError, ssl.SSLError) as error:
        return Denied("ETCD_AUTH_CA", f"the certificates can't be used: {error}")
    try:
        with (
            socket.create_connection((address.host, address.port), _LIMIT) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as secure,
        ):
            secure.settimeout(_LIMIT)
            secure.recv(1)  # a server that wants a certificate says so after the handshake
    except ssl.SSLCertVerificationError as error:
        return Denied("ETCD_AUTH_CA", f"its certificate is not trusted: {error.verify_message}")
    except (ssl.SSLEOFError, ConnectionError):
        return _NO_TLS if _speaks_plainly(address) else None
    except ssl.SSLError as error:
        return _of_alert(error, settings)
    except OSError:
        pass
    return None


def _speaks_plainly(address: Address) -> bool:
    try:
        with socket.create_connection((address.host, address.port), _LIMIT) as plain:
            plain.sendall(b"GET /version HTTP/1.0\r\n\r\n")
            return plain.recv(5) == b"HTTP/"
    except OSError:
        return False


def _of_alert(error: ssl.SSLError, settings: EtcdSettings) -> Denied | None:
    reason = (error.reason or "").replace("_", " ").lower()
    if "wrong version number" in reason or "http request" in reason:
        return _NO_TLS
    if "certificate" in reason or "unknown ca" in reason:
        if not settings.client_cert:
            wanted = "ETCD_AUTH_CLIENT_CERT and ETCD_AUTH_CLIENT_KEY"
            return Denied("ETCD_AUTH_CLIENT_CERT", f"it wants a client's certificate: {wanted}")
        return Denied("ETCD_AUTH_CLIENT_CERT", f"it does not take the client's certificate: {reason}")
    return None


def of_plain(address: Address) -> Denied | None:
    """Whether it is TLS that is spoken there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent
    try:
        with (
            socket.create_connection((address.host, address.port), _LIMIT) as plain,
            context.wrap_socket(plain, server_hostname=address.host),
        ):
            pass
    except (OSError, ValueError):
        return None
    return Denied("ETCD_ENDPOINTS", "it speaks TLS there: write https:// instead of http://")
