"""The files of a spool: how records stand in them, who owns them, and how they are read after their writer's end.

Rules
- A segment belongs to one process and is locked (`flock`) for as long as that lives, however it ends. It gets its name only
  when it is locked: a segment that can be seen and locked has no writer any more.
- A forked child closes what it inherited: else its parent's segments would look alive for as long as the child is.
- A record is a mark, a length, a CRC-32 and the payload, written in one write. Where that does not hold, reading looks for the
  next mark from which it does: the mark cannot occur in text, because its first byte is in no UTF-8.
- A name is ``<destination>.<pid>.<second>.<random>.<number>.spool``: all but the number name the process. Segments for another
  destination (database) are left alone.
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

SUFFIX = ".spool"
_NEW = ".new"
_LOCK = "import.lock"
_MARK = b"\xfaS"
_FRAME = struct.Struct("<2sII")
_SPACE = 1 << 16

#: Descriptors that hold a lock in this process.
_locked: set[int] = set()


def _forget_locks() -> None:
    while _locked:
        with contextlib.suppress(OSError):
            os.close(_locked.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


def frame(payload: bytes) -> bytes:
    """Return a record as it stands in a file."""
    return _FRAME.pack(_MARK, len(payload), crc32(payload)) + payload


def fingerprint(destination: str) -> str:
    """Return the short form of a destination that file names carry."""
    return blake2b(destination.encode("utf-8", "replace"), digest_size=4).hexdigest()


class Read(NamedTuple):
    """What was read of a segment."""

    records: list[bytes]
    #: Places where records were damaged.
    damaged: int
    #: Bytes at the end that are no whole record: what was being written when the process was killed.
    torn: int


def parse(data: bytes) -> Read:
    """Return the records of a segment; what is damaged is passed over, a torn end is cut."""
    records: list[bytes] = []
    damaged = at = 0
    while at < len(data):
        payload = _payload(data, at)
        if payload is not None:
            records.append(payload)
            at += _FRAME.size + len(payload)
            continue
        following = _after(data, at)
        if following < 0:
            return Read(records, damaged, len(data) - at)
        damaged += 1
        at = following
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


def _after(data: bytes, at: int) -> int:
    """Return where to go on behind a damaged record: by its length where that leads to a mark, else at the next whole one."""
    if at + _FRAME.size <= len(data):
        mark, length, _ = _FRAME.unpack_from(data, at)
        end = at + _FRAME.size + int(length)
        if mark == _MARK and (data[end : end + len(_MARK)] == _MARK or end == len(data)):
            return end
    return _next_whole(data, at + 1)


def _next_whole(data: bytes, at: int) -> int:
    while (at := data.find(_MARK, at)) >= 0:
        if _payload(data, at) is not None:
            return at
        at += 1
    return -1


def prepare(directory: Path) -> None:
    """Make the directory of a spool, ours alone. Raises `ConfigError` where that cannot be."""
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
    """Make a segment, locked and with its first record in it; return its descriptor and path. Raises `OSError`."""
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
    """Close a locked descriptor, and so unlock it."""
    _locked.discard(fd)
    with contextlib.suppress(OSError):
        os.close(fd)


@contextlib.contextmanager
def import_lock(directory: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lend the right to import from a directory: True for one process at a time."""
    fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    _locked.add(fd)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield wait  # who only asks whether there are locks has heard that there are
            return
        yield True
    finally:
        release(fd)


@contextlib.contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Lend a segment whose writer is gone: True, and locked, until the block ends."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # somebody was here before
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
    """A segment in the directory."""

    path: Path
    destination: str
    #: What names its process.
    process: str
    number: int


def found(directory: Path) -> list[SpoolContents]:
    """Return the segments of a directory, those of one process together and in order."""
    there = []
    with os.scandir(directory) as entries:
        for entry in entries:
            parts = entry.name.removesuffix(SUFFIX).split(".")
            if entry.name.endswith(SUFFIX) and len(parts) == 5 and parts[4].isdigit():
                there.append(SpoolContents(Path(entry.path), parts[0], ".".join(parts[1:4]), int(parts[4])))
    return sorted(there, key=lambda s: (s.process, s.number))


def sweep(directory: Path) -> None:
    """Remove what was begun and never got a name."""
    for path in directory.glob("*" + _NEW):
        with abandoned(path) as is_free:
            if is_free:
                path.unlink(missing_ok=True)


def size(directory: Path) -> int:
    """Return the bytes of all segments of a directory, whoever writes them."""
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def has_space(directory: Path) -> bool:
    """Say whether the file system has room for more than a few records."""
    section = os.statvfs(directory)
    return section.f_bavail * section.f_frsize > _SPACE
