"""What a failed call means.  etcd's and gRPC's own codes are few; their texts tell more."""

from __future__ import annotations

import re
from collections.abc import Callable

from reqplane.discovery.etcd.seam import (
    Compacted,
    Denied,
    EtcdError,
    LeaseGone,
    LeaseThere,
    Refused,
    Unreachable,
)


def explained(code: str, details: str, look: Callable[[], Denied | None]) -> EtcdError:
    """`code` and `details` are gRPC's; `look` is asked when there was no connection."""
    if code == "DEADLINE_EXCEEDED":
        return Unreachable("no answer in time")
    if code == "UNAVAILABLE":
        return look() or Unreachable(_shortened(details))
    if code == "NOT_FOUND" and "lease" in details:
        return LeaseGone(details)
    if code == "FAILED_PRECONDITION" and "lease already exists" in details:
        return LeaseThere(details)
    if code == "OUT_OF_RANGE" and "compacted" in details:
        return Compacted(details)
    if code == "PERMISSION_DENIED":
        return Denied("ETCD_AUTH_USERNAME", f"{details}: this user may not read and write v1/instances/")
    if code == "INVALID_ARGUMENT" and "authentication failed" in details:
        return Denied("ETCD_AUTH_USERNAME", f"{details} (ETCD_AUTH_USERNAME, ETCD_AUTH_PASSWORD)")
    if code == "INVALID_ARGUMENT" and "user name is empty" in details:
        return Denied("ETCD_AUTH_USERNAME", "it wants a user: ETCD_AUTH_USERNAME and ETCD_AUTH_PASSWORD")
    if code == "FAILED_PRECONDITION" and "authentication is not enabled" in details:
        return Denied("ETCD_AUTH_USERNAME", "it has no users: unset this and ETCD_AUTH_PASSWORD")
    if code == "RESOURCE_EXHAUSTED":
        return Refused(details)
    return Unreachable(f"{_shortened(details)} ({code})")


def _shortened(details: str) -> str:
    """gRPC tells of every address it tried; the last error is the one that counts."""
    last = details.rpartition("last error: ")[2].strip()
    return re.sub(r"^[A-Z_]+: ", "", last) or "no connection"
