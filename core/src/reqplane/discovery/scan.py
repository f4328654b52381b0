"""The file backend's view of the records of all workers, renewed by looking again.

A worker lives while its record is touched within the TTL and, where this machine's kernel can tell, its
lock is held.  A record in Dynamo's layout has Dynamo's TTL, if that is longer.

How long ago a record was touched is judged by the file system's own clock when we first see a touch, and
from then on by how long we have not seen another, on our monotonic clock.  So neither a clock that differs
from the file server's nor one that is set makes workers come or go, and a stamp in the future wears off.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from reqplane.discovery.slots import DYNAMO_TTL, Folder, in_dynamos_layout, open_plain
from reqplane.errors import WireError, describe
from reqplane.model import Change, Instance
from reqplane.wire.records import MAX_RECORD_BYTES, PREFIX, parse_record

_Stamp: TypeAlias = tuple[int, int, int, int]

_OUR_TROUBLE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
"""What is no fault of the file: then nothing is known, and nobody is dropped."""


@dataclass(slots=True)
class _File:
    """A record's file as it was last looked at."""

    stamp: _Stamp
    content: bytes
    instance: Instance | None
    """None if it breaks the rules, or can't be read."""
    touched: float
    """On the monotonic clock."""
    complaint: str = ""
    """Why it could not be read."""
    orphan: bool = False
    """Its owner's lock was seen free.  Stays: who holds the lock after that is not this record's owner."""

    def holds(self, content: bytes) -> bool:
        """Whether it was only touched, or written again as it was."""
        return not self.complaint and self.content == content


class Scan:
    """Looks at the folder and tells what changed.  Blocks, so it belongs to a thread of its own."""

    def __init__(self, folder: Folder, ttl: float, log: logging.Logger) -> None:
        self._folder, self._ttl, self._log = folder, ttl, log
        self._files: dict[str, _File] = {}
        self._living: dict[str, tuple[Instance, bytes]] = {}
        self._now: float | None = None

    def listing(self) -> list[Change]:
        """The living as of the last look."""
        return [Change(instance, up=True) for instance, _ in self._living.values()]

    def look(self) -> list[Change]:
        """What changed since the last look; OSError, and nothing changed, if the folder can't be read."""
        self._now = None
        self._files = dict(self._look_at_all())
        before = self._living
        self._living = {
            name: (file.instance, file.content)
            for name, file in self._files.items()
            if file.instance is not None and self._lives(name, file)
        }
        return _differences(before, self._living)

    def _look_at_all(self) -> Iterator[tuple[str, _File]]:
        try:
            entries = list(os.scandir(self._folder.records))
        except (FileNotFoundError, NotADirectoryError):
            return  # somebody removed the folder; whoever publishes makes it again
        for entry in entries:
            if not entry.name.startswith("."):
                file = self._look_at(entry, self._files.get(entry.name))
                if file is not None:
                    yield entry.name, file

    def _look_at(self, entry: os.DirEntry[str], known: _File | None) -> _File | None:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None  # it went after the folder was read
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if known is not None and known.stamp == stamp:
            return known
        try:
            content = _read(entry.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _OUR_TROUBLE:
                raise
            complaint = _kind(status.st_mode) or describe(error)
            if known is None or known.complaint != complaint:
                self._warn(entry.path, complaint)
            return _File(stamp, b"", None, 0, complaint)
        return self._renewed(entry, known, stamp, content, status.st_mtime)

    def _renewed(
        self, entry: os.DirEntry[str], known: _File | None, stamp: _Stamp, content: bytes, mtime: float
    ) -> _File:
        """The file, now that it has another stamp."""
        touched = time.monotonic() - max(0.0, self._clock() - mtime)
        if known is not None and known.holds(content):
            same_owner = known.stamp[0] == stamp[0]
            return _File(stamp, content, known.instance, touched, orphan=known.orphan and same_owner)
        return _File(stamp, content, self._parse(entry, content), touched)

    def _parse(self, entry: os.DirEntry[str], content: bytes) -> Instance | None:
        try:
            return parse_record(PREFIX + entry.name, content)
        except WireError as error:
            self._warn(entry.path, error)
            return None

    def _lives(self, name: str, file: _File) -> bool:
        ttl = max(self._ttl, DYNAMO_TTL) if in_dynamos_layout(name) else self._ttl
        if time.monotonic() - file.touched > ttl:
            return False
        file.orphan = file.orphan or self._folder.is_orphan(name)
        return not file.orphan

    def _clock(self) -> float:
        """The file system's time, asked once a look."""
        if self._now is None:
            self._now = self._folder.now()
        return self._now

    def _warn(self, path: str, problem: object) -> None:
        self._log.warning("discovery: the file %r is skipped: %s", path, problem)


def _read(path: str) -> bytes:
    """What could be a record, and a byte more.  OSError for all but plain files: a pipe would hold us up."""
    fd = open_plain(path, os.O_RDONLY)
    with open(fd, "rb") as file:
        return file.read(MAX_RECORD_BYTES + 1)


def _kind(mode: int) -> str:
    """What stands there instead of a plain file, if that is so."""
    if stat.S_ISREG(mode):
        return ""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe"}
    return f"wanted a plain file, found {kinds.get(stat.S_IFMT(mode), 'something else')}"


def _differences(
    before: dict[str, tuple[Instance, bytes]], after: dict[str, tuple[Instance, bytes]]
) -> list[Change]:
    gone: list[Change] = []
    came: list[Change] = []
    for name, (instance, _) in before.items():
        if name not in after or after[name][0].incarnation != instance.incarnation:
            gone.append(Change(instance, up=False))
    for name, (instance, content) in after.items():
        if name not in before or before[name][1] != content:
            came.append(Change(instance, up=True))
    return gone + came
