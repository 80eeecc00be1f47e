"""Bring the files in line with `archives` after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from spanpost.model.errors import ConfigError
from spanpost.store.archiving import files, listing
from spanpost.store.archiving.listing import Archive


async def open_directory(connection: Any, directory: Path) -> None:
    """Make the directory if it is missing. Raises `ConfigError` if it cannot be used."""
    archive_id: UUID = await connection.fetchval("SELECT archive_id FROM retention_progress")
    files.prepare(directory, archive_id)


async def recover(connection: Any, directory: Path) -> None:
    """Finish or undo what was interrupted. Call it while no other process changes archives (`running.turn`).

    - A listed file that has no name yet gets it, if it is whole. Otherwise it is taken off the list, as long as its
      rows are in the table.
    - A file that was replaced, or that is not listed and was never finished, is deleted.

    Raises `ConfigError` when a file is missing whose rows are in no table.
    """
    missing = []
    with files.explained(directory):
        for archive in await listing.archives(connection):
            if not await _recovered(connection, directory, archive):
                missing.append(archive.path)
        for left in files.leftovers(directory):
            files.discard(left)
    if missing:
        raise ConfigError(
            f"retention.directory: {directory} lacks {len(missing)} archives that are listed, {missing[0]} first: "
            "restore them from a backup. Nothing is archived or removed before"
        )


async def _recovered(connection: Any, directory: Path, archive: Archive) -> bool:
    path = directory / archive.path
    fresh = files.partial(path)
    if not path.exists() and fresh.exists() and files.hash_of(fresh) == archive.sha256:
        files.give_name(fresh, path)
    if path.exists():
        for replaced in files.generations(path, archive.id):
            files.discard(replaced)
        return True
    if archive.state != "written":
        return False
    await listing.forget(connection, archive)
    return True
