"""Spool files: the record format, ownership by locks, and reading them after their writer has ended.

Rules
- A spool file belongs to one process, which locks it (`flock`) for its whole life, however that ends. The
  file gets its final name only once it is locked: a file that is visible and can be locked has no writer any
  more.
- A forked child closes the descriptors it inherited; otherwise its parent's files would look alive for as
  long as the child.
- A record is a mark, a length, a CRC-32 and the payload, in one write. After a damaged record, reading
  continues at the next mark that starts a valid one. The mark cannot occur in text: its first byte is
  invalid in UTF-8.
- A name is ``<destination>.<pid>.<second>.<random>.<number>.spool``; everything but the number identifies
  the process. Files for another destination (database) are left alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from spanpost.model.errors import ConfigError

with contextlib.suppress(ImportError):  # Windows has none: `prepare` says so
    import fcntl

#: Version of the format.
VERSION = 1
SPOOL_FILE_SIZE = 4 * 1024 * 1024
MAX_SIZE = 1024**3
SUFFIX = ".spool"
_NEW = ".new"
_LOCK = "import.lock"
_MARK = b"\xfaS"
_FRAME = struct.Struct("<2sII")
_SPACE = 1 << 16

#: Descriptors that hold a lock in this process.
_locked: set[int] = set()


class SpoolSettings(NamedTuple):
    """Where a spool is kept, and for whom."""

    directory: Path
    #: The database, without secrets: files for another database are not imported.
    destination: str
    tenant: str = "default"
    max_size: int = MAX_SIZE
    spool_file_size: int = SPOOL_FILE_SIZE


def _forget_locks() -> None:
    while _locked:
        with contextlib.suppress(OSError):
            os.close(_locked.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


def frame(payload: bytes) -> bytes:
    """Return the bytes of a record in a file."""
    return _FRAME.pack(_MARK, len(payload), crc32(payload)) + payload


def fingerprint(destination: str) -> str:
    """Return the short form of a destination that file names carry."""
    return blake2b(destination.encode("utf-8", "replace"), digest_size=4).hexdigest()


class Read(NamedTuple):
    """The contents of a spool file."""

    records: list[bytes]
    #: Places where records were damaged.
    damaged: int
    #: Bytes of an incomplete last record: the process was killed while it wrote.
    torn: int


def parse(data: bytes) -> Read:
    """Return the records of a file; damaged ones are skipped, an incomplete end is cut off."""
    records: list[bytes] = []
    damaged = at = 0
    while at < len(data):
        payload = _payload(data, at)
        if payload is not None:
            records.append(payload)
            at += _FRAME.size + len(payload)
            continue
        next_start = _next_start(data, at)
        if next_start < 0:
            return Read(records, damaged, len(data) - at)
        damaged += 1
        at = next_start
    return Read(records, damaged, 0)


def _payload(data: bytes, at: int) -> bytes | None:
    if at + _FRAME.size > len(data):
        return None
    mark, length, crc = _FRAME.unpack_from(data, at)
    end = at + _FRAME.size + length
    if mark != _MARK or end > len(data):
        return None
    payload = data[at + _FRAME.size : end]
    return payload if crc32(payload) == crc else None


def _next_start(data: bytes, at: int) -> int:
    """Return where to continue after a damaged record: by its length if a mark follows, but never beyond the
    next valid record, because the length may be what is damaged.
    """
    if at + _FRAME.size <= len(data):
        mark, length, _ = _FRAME.unpack_from(data, at)
        end = at + _FRAME.size + int(length)
        if mark == _MARK and (data[end : end + len(_MARK)] == _MARK or end == len(data)):
            whole = _next_whole(data, at + 1, end)
            return end if whole < 0 else whole
    return _next_whole(data, at + 1, len(data))


def _next_whole(data: bytes, at: int, until: int) -> int:
    while (at := data.find(_MARK, at, until)) >= 0:
        if _payload(data, at) is not None:
            return at
        at += 1
    return -1


def prepare(directory: Path) -> None:
    """Create the spool's directory, readable only by this user. Raises `ConfigError` if that fails."""
    if not hasattr(os, "register_at_fork"):
        raise ConfigError("intake.durable: this system has no file locks that end with their process; unset it")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.stat(directory)
        if found.st_uid != os.geteuid():
            raise ConfigError(
                f"the spool's directory {directory} belongs to another user; name one of your own, or change its owner"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise ConfigError(f"the spool's directory {directory} is open to others: chmod 700 it, or name another")
        with import_lock(directory, wait=True):
            pass
    except OSError as error:
        raise ConfigError(
            f"the spool cannot be kept in {directory}: {error}; name a directory that can be written and locked"
        ) from error


def create(directory: Path, name: str, first: bytes) -> tuple[int, Path]:
    """Create a locked file with its first record; return its descriptor and path. Raises `OSError`."""
    path = directory / (name + SUFFIX)
    fresh = directory / (name + _NEW)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    _locked.add(fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.write(fd, first) != len(first):
            raise OSError(28, "no space left for the head of a segment")
        os.rename(fresh, path)
    except BaseException:
        release(fd)
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise
    return fd, path


def release(fd: int) -> None:
    """Close a locked descriptor, which unlocks it."""
    _locked.discard(fd)
    with contextlib.suppress(OSError):
        os.close(fd)


@contextlib.contextmanager
def import_lock(directory: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the import lock of a directory: yields True for one process at a time."""
    fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    _locked.add(fd)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield wait  # with `wait` the caller only tests whether locks work; they do
            return
        yield True
    finally:
        release(fd)


@contextlib.contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Lock a file whose writer is gone, until the block ends; yields False: it is in use or deleted."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # another process imported it before
        yield False
        return
    _locked.add(fd)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_free = os.fstat(fd).st_nlink > 0
        except OSError:
            is_free = False
        yield is_free
    finally:
        release(fd)


class SpoolContents(NamedTuple):
    """A spool file in the directory, by its name."""

    path: Path
    destination: str
    #: Identifies the process that wrote it.
    process: str
    number: int


def found(directory: Path) -> list[SpoolContents]:
    """Return the files of a directory, grouped by process, each in order."""
    files = []
    with os.scandir(directory) as entries:
        for entry in entries:
            parts = entry.name.removesuffix(SUFFIX).split(".")
            if entry.name.endswith(SUFFIX) and len(parts) == 5 and parts[4].isdigit():
                files.append(SpoolContents(Path(entry.path), parts[0], ".".join(parts[1:4]), int(parts[4])))
    return sorted(files, key=lambda s: (s.process, s.number))


def sweep(directory: Path) -> None:
    """Remove files that were created but never got their final name."""
    for path in directory.glob("*" + _NEW):
        with abandoned(path) as is_free:
            if is_free:
                path.unlink(missing_ok=True)


def size(directory: Path) -> int:
    """Return the total bytes of all spool files in a directory, of every process."""
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def has_space(directory: Path) -> bool:
    """Whether the file system has space for more than a few records."""
    stats = os.statvfs(directory)
    return stats.f_bavail * stats.f_frsize > _SPACE
