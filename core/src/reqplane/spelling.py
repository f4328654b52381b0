"""Variables that nobody reads because their name is misspelt: silently they would have no effect."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

log = logging.getLogger("reqplane")

_OURS = re.compile(r"(DYN|ETCD|NATS)_", re.IGNORECASE)
_CLOSE = 0.85
"""As difflib counts: one letter wrong, missing or too many in a name of a dozen, or two swapped."""

_ONCE_INSTALLED = """
    DYN_CALL_HOME_TIMEOUT DYN_HEARTBEAT_MS DYN_MAX_INFLIGHT_BYTES DYN_RESPONSE_ALLOW DYN_STATIC_INSTANCES
    DYN_SYSTEM_PORT DYN_WIRE_PROFILE DYN_FILE_KV DYN_FILE_TTL
    DYN_HTTP_RPC_HOST DYN_HTTP_RPC_PORT DYN_HTTP_RPC_ROOT_PATH DYN_HTTP_RPC_ADVERTISE_HOST
    DYN_HTTP_REQUEST_TIMEOUT DYN_HTTP2_POOL_MAX_IDLE_PER_HOST DYN_HTTP2_POOL_IDLE_TIMEOUT_SECS
    DYN_HTTP2_KEEP_ALIVE_INTERVAL_SECS DYN_HTTP2_KEEP_ALIVE_TIMEOUT_SECS
    DYN_TCP_RESPONSE_STREAM_HOST DYN_TCP_RESPONSE_STREAM_PORT DYN_TCP_RESPONSE_STREAM_ADVERTISE_HOST
    DYN_TCP_RPC_HOST DYN_TCP_RPC_PORT DYN_TCP_RPC_ADVERTISE_HOST DYN_TCP_REQUEST_TIMEOUT
    DYN_NATS_REQUEST_TIMEOUT_SECS ETCD_ENDPOINTS ETCD_LEASE_TTL
    ETCD_AUTH_USERNAME ETCD_AUTH_PASSWORD ETCD_AUTH_CA ETCD_AUTH_CLIENT_CERT ETCD_AUTH_CLIENT_KEY
    NATS_SERVER NATS_AUTH_USERNAME NATS_AUTH_PASSWORD NATS_AUTH_TOKEN NATS_AUTH_NKEY
    NATS_AUTH_CREDENTIALS_FILE NATS_TLS_CA_CERT_PATH NATS_TLS_CLIENT_CERT_PATH NATS_TLS_CLIENT_KEY_PATH
"""

_DYNAMOS = """
    DYN_CANARY_WAIT_TIME DYN_DISCOVERY_SYSTEM DYN_EVENT_PLANE DYN_EVENT_PLANE_CODEC DYN_HTTP_HOST
    DYN_HTTP_PORT DYN_HTTP_BODY_LIMIT_MB DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS
    DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS DYN_HTTP_SSE_KEEP_ALIVE_INTERVAL_MS
    DYN_HTTP2_MAX_FRAME_SIZE DYN_HTTP2_MAX_CONCURRENT_STREAMS DYN_HTTP2_ADAPTIVE_WINDOW
    DYN_LOGGING_CONFIG_PATH DYN_LOGGING_JSONL DYN_LOG_USE_LOCAL_TZ DYN_NAMESPACE DYN_NATS_STREAM_MAX_AGE
    DYN_RUNTIME_MAX_BLOCKING_THREADS DYN_RUNTIME_NUM_WORKER_THREADS
    DYN_STORE_KV DYN_SYSTEM_ENABLED DYN_SYSTEM_HOST DYN_SYSTEM_HEALTH_PATH DYN_SYSTEM_LIVE_PATH
    DYN_SYSTEM_STARTING_HEALTH_STATUS DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS
    DYN_TCP_CONNECT_TIMEOUT DYN_TCP_MAX_MESSAGE_SIZE DYN_TCP_POOL_SIZE DYN_TCP_WORKER_POOL_SIZE
    ETCD_STARTUP_CONNECT_TIMEOUT_SECONDS NATS_TLS_INSECURE
"""

OF_OTHERS = frozenset(f"{_ONCE_INSTALLED} {_DYNAMOS}".split())
"""Names that mean something: to plugins that may not be installed, or to Dynamo and look like one of ours."""


def known(classes: Iterable[type[Any]]) -> set[str]:
    """The variables that these settings classes read."""
    return {field.metadata["variable"] for cls in classes for field in dataclasses.fields(cls)}


def unknown(env: Mapping[str, str], classes: Iterable[type[Any]]) -> dict[str, str | None]:
    """The variables of our kind that nobody reads: by name, which known one each may be meant to be."""
    names = known(classes)
    given = (name for name, value in env.items() if _OURS.match(name) and value.strip())
    strange = sorted(set(given) - names - OF_OTHERS)
    return {name: _meant(name, names) for name in strange}


def _meant(name: str, names: Iterable[str]) -> str | None:
    candidates = sorted({*names, *OF_OTHERS})
    close = difflib.get_close_matches(name.upper(), candidates, n=1, cutoff=_CLOSE)
    return close[0] if close else None


def warn_of_misspelt(env: Mapping[str, str], classes: Iterable[type[Any]]) -> None:
    """Warn of each that is nearly a known one, once a process."""
    for name, meant in unknown(env, classes).items():
        if meant is not None:
            _warn(name, meant)


@functools.cache
def _warn(name: str, meant: str) -> None:
    log.warning("%s is not a setting; did you mean %s?", name, meant)
