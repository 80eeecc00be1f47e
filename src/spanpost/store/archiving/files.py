"""Files of archives: where they are, and how one takes its place so that a power cut loses nothing.

Layout: `<directory>/tenant=<tenant>/<table>/<month>-<part>-<id>-<generation>.parquet`. Directories have mode 0700,
files 0600. A file that is being written is called `.<name>.partial`. `archive.json` names the database that the
directory belongs to, so that two databases never share one.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote
from uuid import UUID

from spanpost.model.errors import ConfigError
from spanpost.store.lasting import sync_directory

MARKER: Final = "archive.json"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LONGEST: Final = 150


def directory_of(tenant: str) -> str:
    """Return the name of a tenant's directory."""
    name = quote(tenant, safe="").replace(".", "%2E")
    if len(name) > _LONGEST:
        name = f"{name[:60]}-{sha256(tenant.encode()).hexdigest()[:32]}"
    return f"tenant={name}"


def path_of(tenant: str, source: str, month: date, part: int, id: UUID, generation: int = 1) -> str:
    """Return the path of an archive's file, relative to the directory."""
    return f"{directory_of(tenant)}/{source}/{month:%Y-%m}-{part}-{id}-{generation}.parquet"


def partial(path: Path) -> Path:
    """Return the name of a file while it is being written."""
    return path.with_name(f".{path.name}.partial")


def prepare(directory: Path, archive_id: UUID) -> None:
    """Make the directory; raise `ConfigError` if it cannot be used, or belongs to another database."""
    with explained(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), 0) or found.st_mode & 0o077:
            raise ConfigError(
                f"retention.directory: {directory} must be a directory of this user with mode 0700; "
                f"chmod 700 it, or name another"
            )
        marker = directory / MARKER
        if not marker.exists():
            fresh = partial(marker)
            with suppress(FileNotFoundError):
                fresh.unlink()
            with created(fresh) as file:
                os.write(file, json.dumps({"archive_id": str(archive_id)}).encode())
            give_name(fresh, marker)
        if json.loads(marker.read_text()).get("archive_id") != str(archive_id):
            raise ConfigError(
                f"retention.directory: {directory} holds the archives of another database; name a directory of its own"
            )


@contextmanager
def created(path: Path) -> Iterator[int]:
    """Make a new file of mode 0600 with its directories, and flush it to the disk at the end."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield file
        os.fsync(file)
    finally:
        os.close(file)


def give_name(fresh: Path, path: Path) -> None:
    """Give a file its name, lastingly."""
    os.rename(fresh, path)
    _flush(path.parent)


def discard(path: Path) -> None:
    """Delete a file, lastingly. A missing one is no error."""
    with suppress(FileNotFoundError):
        path.unlink()
        _flush(path.parent)


def _flush(directory: Path) -> None:
    # The entries of the directories above may be new as well.
    for each in (directory, directory.parent, directory.parent.parent):
        sync_directory(each)


def hash_of(path: Path) -> bytes:
    """Return the SHA-256 of a file."""
    found = sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.digest()


@contextmanager
def explained(directory: Path) -> Iterator[None]:
    """Turn an error of the file system into `ConfigError`: what failed, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ConfigError(
                f"the disk of {directory} is full: nothing was deleted from the database; make room, or name another "
                "directory in retention.directory. The next run goes on"
            ) from error
        raise ConfigError(
            f"the archive in {directory} cannot be used ({error}): nothing was deleted from the database"
        ) from error


def leftovers(directory: Path) -> Iterator[Path]:
    """Yield the files that were being written when a run was killed."""
    yield from directory.glob("tenant=*/*/.*.partial")


def generations(path: Path, id: UUID) -> Iterator[Path]:
    """Yield the files of an archive other than `path`: those that `rewrite` replaced."""
    for found in path.parent.glob(f"*{id}*.parquet"):
        if found != path:
            yield found
