"""Archives of rows that have leaves: each file is what the log says, and its rows are those of their leaves.

The database computes the hash of each row from the values in the file, with the SQL by which the sealer did; only
batches of rows are in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from spanpost.model.errors import ConfigError
from spanpost.store.archiving import files, listing, parquet
from spanpost.store.archiving.listing import Archive
from spanpost.store.archiving.sources import SOURCES, ArchiveField, fields_of, typed
from spanpost.store.sealing import forgetting, leaves, tree
from spanpost.store.sealing.forgetting import Source
from spanpost.store.sealing.gone import GoneRows
from spanpost.store.sealing.verified import Steps, Verified

if TYPE_CHECKING:
    import pyarrow

#: Rows whose hashes the database computes at once.
_AT_ONCE: Final = 2_000


class ArchiveFiles:
    """The archives of a database, and their directory. `why_not`: why their files are not read; empty: they are."""

    def __init__(self, archives: Sequence[Archive], directory: Path | None, why_not: str) -> None:
        self._by_tenant: dict[str, list[Archive]] = {}
        for archive in archives:
            self._by_tenant.setdefault(archive.tenant, []).append(archive)
        self._directory = directory
        self.why_not = why_not

    @classmethod
    async def listed(cls, connection: Any, tenant: str | None, directory: Path | None, busy: str) -> ArchiveFiles:
        """Return the archives of all tenants, or of one."""
        found = await listing.archives(connection, tenant=tenant)
        return cls(found, directory, busy or _why_not(directory) if found else "")

    @property
    def rows(self) -> int:
        """Number of rows with leaves in files that will be read."""
        if self.why_not:
            return 0
        return sum(archive.rows for some in self._by_tenant.values() for archive in some if _sealed(archive))

    async def verify(self, connection: Any, gone: GoneRows, hashes: bytearray, result: Verified, steps: Steps) -> None:
        """Verify the archives of a log's tenant. `hashes`: those of its leaves."""
        for archive in self._by_tenant.pop(gone.tenant, []):
            path = self._checked(archive, result)
            source = _sealed(archive)
            if path is None or source is None:
                if self.why_not:
                    await gone.believe_archive(connection, archive.sha256)
                continue
            if not await gone.begin_archive(connection, archive.sha256) and archive.state != "written":
                result.add(archive.tenant, f"archive {archive.path}: no note of the log names this file")
            try:
                async with connection.transaction():
                    await _verify_rows(connection, path, archive, source, gone, hashes, result, steps)
            except (parquet.library().ArrowException, OSError, KeyError, asyncpg.DataError) as error:
                result.add(archive.tenant, f"archive {archive.path} cannot be read to its end: {type(error).__name__}")
            await gone.end_archive(connection, archive.sha256)

    async def verify_rest(self, result: Verified) -> None:
        """Verify the files of tenants without a log."""
        for archive in (archive for some in self._by_tenant.values() for archive in some):
            self._checked(archive, result)

    def _checked(self, archive: Archive, result: Verified) -> Path | None:
        """Compare a file with its SHA-256; return its path if it can be read."""
        if self.why_not or self._directory is None:
            result.not_checked += 1
            result.not_checked_why = self.why_not
            return None
        result.archives += 1
        path = self._directory / archive.path
        named = f"archive {archive.path}"
        try:
            if ".." in PurePosixPath(archive.path).parts or not path.is_relative_to(self._directory):
                result.add(archive.tenant, f"{named} is listed outside the directory of archives")
                return None
            if not path.is_file():
                result.add(archive.tenant, f"{named} is missing, with {archive.rows:,} rows of {archive.source}")
                return None
            if files.hash_of(path) != archive.sha256:
                result.add(archive.tenant, f"{named} was changed: its SHA-256 is not that in the list of archives")
        except OSError as error:
            result.add(archive.tenant, f"{named} cannot be read: {type(error).__name__}")
            return None
        return path


def _why_not(directory: Path | None) -> str:
    if directory is None:
        return "retention.directory is not set"
    if not directory.is_dir():
        return f"{directory} is no directory"
    try:
        parquet.library()
    except ConfigError as error:
        return str(error)
    return ""


def _sealed(archive: Archive) -> Source | None:
    """Return the table whose leaves an archive's rows have, if they have any."""
    target = SOURCES[archive.source].target if archive.source in SOURCES else ""
    return target if target in leaves.COLUMNS else None


async def _verify_rows(
    connection: Any, path: Path, archive: Archive, source: Source, gone: GoneRows, hashes: bytearray,
    result: Verified, steps: Steps,
) -> None:  # fmt: skip
    there = {field.name for field in parquet.fields_in(path)}
    fields = await fields_of(connection, SOURCES[archive.source])
    query, names = _query(source, fields, there), [field.name for field in fields if field.name in there]
    count = 0
    for batch in parquet.batches(path, names, _AT_ONCE):
        for row in await connection.fetch(query, archive.tenant, *_texts(batch, names)):
            leaf = row["leaf"]
            # A row without a leaf was archived before the log began, or its salt was erased.
            if leaf is None or (leaf + 1) * tree.HASH_SIZE > len(hashes):
                continue
            body = leaves.leaf_of_row(source, row["written_at"], row["digest"])
            if tree.leaf_hash(body) == hashes[leaf * tree.HASH_SIZE : (leaf + 1) * tree.HASH_SIZE]:
                gone.find(leaf)
            else:
                result.add(archive.tenant, f"{source} {row['row_id']} was changed in archive {archive.path}", leaf)
        count += batch.num_rows
        steps.add(batch.num_rows)
    if count != archive.rows:
        result.add(archive.tenant, f"archive {archive.path} has {count:,} rows instead of {archive.rows:,}")


def _query(source: Source, fields: Sequence[ArchiveField], there: set[str]) -> str:
    """Return the SQL of the leaves and digests of rows, whose values are given as texts."""
    given = [field for field in fields if field.name in there]
    values = ", ".join(
        f'{typed(field)} AS "{field.name}"' if field.name in there else f'NULL::{field.type} AS "{field.name}"'
        for field in fields
    )
    _, id, hash = leaves.KEYS[source]
    row_hash = hash if hash.startswith("0") else f"e.{hash}"
    written = leaves.TIME.format(f"e.{leaves.WRITTEN_AT[source]}")
    arrays = ", ".join(f"${number}::text[]" for number in range(2, len(given) + 2))
    names = ", ".join(f'"{field.name}"' for field in given)
    return f"""
WITH e AS MATERIALIZED (SELECT {values} FROM unnest({arrays}) AS given({names}))
SELECT s.leaf, e.{id} AS row_id, {written} AS written_at, {leaves.digest(source, "s.salt")} AS digest
FROM e LEFT JOIN LATERAL (
  SELECT x.leaf, x.salt FROM sealed_rows x WHERE x.row_id = e.{id} AND x.row_hash = {row_hash}
    AND x.source = {forgetting.SOURCES[source]} AND x.tenant = $1 LIMIT 1) s ON true"""


def _texts(batch: pyarrow.RecordBatch, names: Sequence[str]) -> list[list[str | None]]:
    return [column.to_pylist() for column in parquet.plain_texts(batch.select(names))]
