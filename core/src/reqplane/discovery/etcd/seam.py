"""What the rest asks of an etcd client, and what it gets to hear.  Everything blocks, for 2 s at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as etcd has it.  `created` tells one life of a key from the next, `modified` its last change."""

    key: str
    value: bytes
    created: int
    modified: int
    lease: int


@dataclass(frozen=True, slots=True)
class Removal:
    """A key that was deleted, at this revision."""

    key: str
    modified: int


Happening: TypeAlias = Entry | Removal


@dataclass(frozen=True, slots=True)
class Listing:
    """All keys of a prefix at one revision of etcd."""

    revision: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """What a watch tells: changes in order.  None at all is a sign of life."""

    happenings: tuple[Happening, ...]


class EtcdError(Exception):
    """Why something could not be done, in words for people; never with a secret in them."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unreachable(EtcdError):
    """This client is no good any more: close it and build the next."""


class Denied(EtcdError):
    """etcd is there and does not let us in; `variable` is the setting to look at."""

    def __init__(self, variable: str, reason: str) -> None:
        super().__init__(reason)
        self.variable = variable


class Refused(EtcdError):
    """etcd won't do this; it may do others."""


class LeaseGone(EtcdError):
    """There is no such lease."""


class LeaseThere(EtcdError):
    """There is such a lease already."""


class Compacted(EtcdError):
    """The watch can't begin where it was to: etcd has forgotten what happened then."""


Tell: TypeAlias = Callable[[Heard | EtcdError], None]
"""Called in a thread of the client.  After an error nothing more comes."""


class Client(Protocol):
    """A connection to one member of etcd.  Everything raises EtcdErrors only."""

    def list(self, prefix: str) -> Listing: ...

    def claim(self, key: str, value: bytes, lease: int) -> Entry | None:
        """Make the key unless there is one; None if there is.  LeaseGone."""
        ...

    def replace(self, entry: Entry, value: bytes, lease: int) -> Entry | None:
        """Write over just this version of the key; None if it has changed meanwhile.  LeaseGone."""
        ...

    def update(self, key: str, created: int, value: bytes, lease: int) -> bool:
        """Write the key in this life of it; False if that is over.  LeaseGone."""
        ...

    def remove(self, key: str, created: int) -> None:
        """Delete the key in this life of it."""
        ...

    def grant(self, ttl: int, number: int) -> int:
        """A new lease, of this number unless that is 0.

        One that has the number already, and lives, does as well: an answer was lost, perhaps.
        """
        ...

    def keep(self, lease: int) -> bool:
        """Give the lease its whole time again; False if it is gone."""
        ...

    def revoke(self, lease: int) -> None: ...

    def watch(self, prefix: str, revision: int, tell: Tell) -> None:
        """Tell what happens from this revision on; once for each client.  Returns at once."""
        ...

    def close(self) -> None:
        """Whatever waits fails at once.  May be called from any thread; idempotent."""
        ...
