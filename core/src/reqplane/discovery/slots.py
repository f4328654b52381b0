"""The file backend's folder, and the numbers that this process holds there.

    {folder}/v1/instances/{name}   a worker's record, touched by its owner every TTL/3 or 3.3 s
    {folder}/v1/locks/{name}       locked (flock) by its owner for as long as it has the number
    {folder}/v1/drafts/            records on their way: written here, then renamed
    {folder}/v1/clock              touched to learn what time the file system has

A record is replaced by renaming, which gives its name another inode, so the lock can't be the record's own.
It is an flock and not a POSIX lock, because a process loses the latter when it opens and closes the file
itself, as watching does.  A lock file is never unlinked: whoever had opened it just before would lock an
inode that has no name any more, next to the one who locks its successor.  In Dynamo's layout there is no
successor, since the number is the worker's own: there it goes with its owner, or by whoever comes later.

The kernel frees the lock when its owner dies, however it dies; that is how `kill -9` shows at once.  Only
the kernel that holds a lock can say that, and some network file systems can't, so a lock file holds the
token of its owner's machine; for any other machine's records the TTL alone decides.

Dynamo, from 1.0 on, has its records in the same place, in its own layout and without locks.  It removes what
was not touched for 10 s, whoever's it is, so we touch often enough for that; and it looks at nothing else in
here.

Python opens files O_CLOEXEC, so a program started by a worker does not inherit the lock.  A child that is
forked and executes nothing does: while it outlives its parent the parent's death shows by the TTL only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import stat
import threading
import time
from contextlib import suppress
from itertools import chain, count

from reqplane.errors import DiscoveryUnavailable, LeaseLost
from reqplane.model import EndpointId
from reqplane.wire.records import dynamo_file, instance_name

_PATIENCE = 0.05
"""How long to try for a lock that only probers hold.  They hold it for microseconds."""
DYNAMO_TTL = 10.0
"""Seconds after which Dynamo takes a record for dead and removes it.  Recorded from 1.6.1."""
_FORGOTTEN = 3600.0
"""The age in seconds at which a draft has surely lost its writer."""


class Folder:
    """Where everything lies.  All methods block."""

    def __init__(self, path: str, *, private: bool) -> None:
        self.path = path
        self.records = os.path.join(path, "v1", "instances")
        self.locks = os.path.join(path, "v1", "locks")
        self._drafts = os.path.join(path, "v1", "drafts")
        self._clock = os.path.join(path, "v1", "clock")
        self._private = private
        self._draft_names = (f"{os.getpid()}.{random.getrandbits(64):016x}.{n}" for n in count())
        self.machine = _machine()

    def make(self) -> None:
        """Make what is missing; DiscoveryUnavailable if it can't be used."""
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            if self._private:
                self._keep_private()
            for folder in (self.records, self.locks, self._drafts):
                os.makedirs(folder, exist_ok=True)
            os.close(open_plain(self._clock, os.O_WRONLY | os.O_CREAT))
        except OSError as error:
            raise DiscoveryUnavailable(
                f"the discovery folder {self.path} can't be used ({error.strerror}); "
                f"set DYN_FILE_KV to a folder that this user can write to"
            ) from error

    def _keep_private(self) -> None:
        """In a temp directory anybody may have made the folder first, or a link in its place.

        One of our own that is open to others is closed: they could register workers in it.
        """
        for owner in (os.lstat(self.path).st_uid, os.stat(self.path).st_uid):
            if owner != os.getuid():
                raise DiscoveryUnavailable(
                    f"the discovery folder {self.path} belongs to user {owner}, not to this one "
                    f"({os.getuid()}); set DYN_FILE_KV to a folder of your own"
                )
        if stat.S_IMODE(os.stat(self.path).st_mode) & 0o077:
            os.chmod(self.path, 0o700)

    def now(self) -> float:
        """The time by the clock that stamps the records.

        On a network file system that is the server's, which may differ from ours by more than a TTL.
        Where we may not touch, ours has to do.
        """
        try:
            fd = open_plain(self._clock, os.O_WRONLY)
            try:
                os.utime(fd)
                return os.fstat(fd).st_mtime
            finally:
                os.close(fd)
        except OSError:
            return time.time()

    def write(self, name: str, content: bytes) -> int:
        """Put a record in its place in one step; returns the open file, which keeps its inode's number
        from being used again."""
        draft = os.path.join(self._drafts, next(self._draft_names))
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(content)
            _put_in_place(draft, os.path.join(self.records, name))
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                os.unlink(draft)
            raise
        return fd

    def sweep(self) -> None:
        """Remove what processes that died have left, and nobody would take over."""
        self._sweep_drafts()
        for name in self._names_of_locks():
            if in_dynamos_layout(name) and self.is_orphan(name):
                for path in (os.path.join(self.records, name), os.path.join(self.locks, name)):
                    with suppress(OSError):
                        os.unlink(path)

    def _names_of_locks(self) -> list[str]:
        try:
            return os.listdir(self.locks)
        except OSError:
            return []

    def _sweep_drafts(self) -> None:
        entries: list[os.DirEntry[str]] = []
        with suppress(OSError):
            entries += os.scandir(self._drafts)
        for entry in entries:
            with suppress(OSError):  # what can't be removed stays
                if self.now() - entry.stat(follow_symlinks=False).st_mtime > _FORGOTTEN:
                    os.unlink(entry.path)

    def is_orphan(self, name: str) -> bool:
        """Whether this machine's kernel says that nobody holds the number any more."""
        try:
            fd = open_plain(os.path.join(self.locks, name), os.O_RDONLY)
        except OSError:
            return False
        try:  # closing gives back a lock that we get
            return os.read(fd, 256) == self.machine and _try_lock(fd, fcntl.LOCK_SH)
        except OSError:
            return False
        finally:
            os.close(fd)


class Slot:
    """A number of an endpoint that this process holds, and its record once written.

    All methods block, and may be called from any thread: the heartbeat looks while a record is written.
    """

    def __init__(self, folder: Folder, name: str, number: int, ttl: float, lock: int) -> None:
        self.number = number
        self._is_own = in_dynamos_layout(name)
        self._folder, self._name, self._ttl = folder, name, ttl
        self._lock_path = os.path.join(folder.locks, name)
        self._record_path = os.path.join(folder.records, name)
        self._lock: int | None = lock
        self._record: int | None = None
        self._busy = threading.Lock()

    def write(self, content: bytes) -> None:
        """Publish; LeaseLost if the number went to somebody else."""
        with self._busy:
            if self._lock is None:
                raise LeaseLost(f"{self._name} was withdrawn")
            if not _names(self._lock_path, self._lock):
                self._take_again()
            self._folder.make()
            former, self._record = self._record, self._folder.write(self._name, content)
            _close(former)

    def _take_again(self) -> None:
        """The folder was removed under us, and with it our lock's name."""
        former, self._lock = self._lock, None
        _close(former)
        self._folder.make()
        self._lock = _take(self._folder, self._name, self._ttl)
        if self._lock is None:
            raise LeaseLost(f"{self._name} was removed and then taken by another worker")

    def touch(self) -> bool:
        """Say that we live; False if the number or its record is not ours any more."""
        with self._busy:
            if self._lock is None or not _names(self._lock_path, self._lock):
                return False
            if self._record is None:
                return True
            if not _names(self._record_path, self._record):
                return False
            os.utime(self._record)
            return True

    def free(self) -> None:
        """Take the record away, if it is still ours, and give the number back; idempotent."""
        with self._busy:
            lock, self._lock = self._lock, None
            record, self._record = self._record, None
            if lock is not None and self._is_own and _names(self._lock_path, lock):
                with suppress(OSError):
                    os.unlink(self._lock_path)
            try:
                if record is not None and _names(self._record_path, record):
                    os.unlink(self._record_path)
            except FileNotFoundError:
                pass
            finally:
                _close(record)
                _close(lock)


def reserve(folder: Folder, endpoint: EndpointId, ttl: float, first: int | None = None) -> Slot:
    """Take the lowest free number of the endpoint, or `first` if that is free."""
    folder.make()
    for number in chain([] if first is None else [first], count()):
        name = instance_name(endpoint, number)
        lock = _take(folder, name, ttl)
        if lock is not None:
            return Slot(folder, name, number, ttl, lock)
    raise AssertionError("numbers never end")


def reserve_own(folder: Folder, endpoint: EndpointId, ttl: float, number: int | None) -> Slot:
    """Take a number that nobody else would: Dynamo's layout, where it is the worker's incarnation."""
    assert number is not None
    folder.make()
    name = dynamo_file(endpoint, number)
    lock = _take(folder, name, ttl)
    if lock is None:
        raise DiscoveryUnavailable(f"{os.path.join(folder.records, name)} is held already")
    return Slot(folder, name, number, ttl, lock)


def in_dynamos_layout(name: str) -> bool:
    """Whether a file's name is a key of Dynamo's, whose slashes are encoded; the guide's have none."""
    return "%2F" in name


def _take(folder: Folder, name: str, ttl: float) -> int | None:
    """The open, locked lock file, or None if somebody has the number."""
    path = os.path.join(folder.locks, name)
    try:
        lock = open_plain(path, os.O_RDWR | os.O_CREAT)
    except OSError:
        if os.path.lexists(path):  # another user's, or no plain file
            return None
        raise
    try:
        if (
            not _lock_unless_held(lock)
            or not _names(path, lock)
            or _lives_elsewhere(folder, name, ttl, lock)
            or not _cleared(folder, name)
        ):
            os.close(lock)
            return None
        os.ftruncate(lock, 0)
        os.pwrite(lock, folder.machine, 0)
    except BaseException:
        _close(lock)
        raise
    return lock


def _cleared(folder: Folder, name: str) -> bool:
    """Remove what a dead owner left: with the lock held again it would look alive.

    False if it can't be removed: it is a folder, or another user's in a folder that is everybody's.
    """
    try:
        os.unlink(os.path.join(folder.records, name))
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        if not os.access(folder.records, os.W_OK):
            raise
        return False
    return True


def _put_in_place(draft: str, path: str) -> None:
    """Give a whole file its name in one step.

    By a link, where nothing has the name yet: Dynamo 0.9 hears of files that are created, and not of those
    that are renamed.
    """
    try:
        os.link(draft, path)
    except OSError:  # it is there, or the file system has no links
        os.replace(draft, path)
    else:
        os.unlink(draft)


def _lock_unless_held(fd: int) -> bool:
    """Lock it, being patient with probers but not with an owner.

    A prober has a shared lock for a moment, which keeps us out but lets another shared lock in.
    """
    give_up = time.monotonic() + _PATIENCE
    while not _try_lock(fd, fcntl.LOCK_EX):
        if not _try_lock(fd, fcntl.LOCK_SH):
            return False
        fcntl.flock(fd, fcntl.LOCK_UN)
        if time.monotonic() > give_up:
            return False
        time.sleep(random.uniform(0.001, 0.004))
    return True


def _lives_elsewhere(folder: Folder, name: str, ttl: float, lock: int) -> bool:
    """Whether there is a fresh record whose owner's lock we could not have seen."""
    try:
        touched = os.stat(os.path.join(folder.records, name), follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return False
    return os.pread(lock, 256, 0) != folder.machine and folder.now() - touched <= ttl


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise DiscoveryUnavailable(
                "the file system of the discovery folder has no file locks; set DYN_FILE_KV to another one"
            ) from error
        raise
    return True


def _names(path: str, fd: int) -> bool:
    """Whether the path still leads to the open file."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except (FileNotFoundError, NotADirectoryError):
        return False


def open_plain(path: str, flags: int) -> int:
    """Open a plain file; OSError for anything else.

    In a folder that others can write to, a link could lead us to overwrite a file of our own, and a pipe
    would hold us up.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a plain file", path)
    return fd


def _close(fd: int | None) -> None:
    if fd is not None:
        with suppress(OSError):
            os.close(fd)


def _machine() -> bytes:
    """What tells this running kernel from every other."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().strip()
    except OSError:
        return socket.gethostname().encode()
