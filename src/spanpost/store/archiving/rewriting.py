"""Make an archive again without some of its rows: for erasure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from spanpost.model.errors import ConfigError
from spanpost.store.archiving import files, listing, parquet
from spanpost.store.archiving.listing import Archive
from spanpost.store.archiving.sources import RowsDigest
from spanpost.store.archiving.writing import Watch, verified

if TYPE_CHECKING:
    import pyarrow

#: Decides for each row of a batch (`pyarrow.RecordBatch`) whether it stays: a `pyarrow.BooleanArray` without nulls.
Keep = Callable[["pyarrow.RecordBatch"], "pyarrow.BooleanArray"]
_SWAP: Final = """
UPDATE archives SET path = $2, rows = $3, size = $4, sha256 = $5, digest = $6 WHERE id = $1 AND path = $7
RETURNING true"""


async def rewrite(
    connection: Any, directory: Path, archive: Archive, keep: Keep, *, watch: Watch = lambda step: None
) -> Archive | None:
    """Make a file again without the rows that `keep` refuses; return the archive as it is now, None if no row is left.

    The new file is verified before it takes the place of the old one, whose row in `archives` is corrected. Called
    within a transaction, so call `finish` after its commit: until then both files exist. Safe to repeat after a kill:
    `recover` deletes what is left over. Raises `ConfigError` when the file is missing, is not the listed one, or
    the file system refuses.
    """
    path = directory / archive.path
    with files.explained(directory):
        if await asyncio.to_thread(files.hash_of, path) != archive.sha256:
            raise ConfigError(f"the archive {path} is not the file that was written: restore it from a backup first")
    generation = int(path.stem.rpartition("-")[2]) + 1
    relative = files.path_of(archive.tenant, archive.source, archive.month, archive.part, archive.id, generation)
    fresh = files.partial(directory / relative)
    fields = parquet.fields_in(path)
    expected = RowsDigest(0, 0, 0)
    with files.explained(directory):
        files.discard(fresh)
        with files.created(fresh) as file:
            schema = parquet.library().parquet.read_schema(path)
            writer = parquet.Writer(file, fields, {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()})
            for batch in parquet.batches(path):
                kept = batch.filter(keep(batch))
                if kept.num_rows:
                    expected = expected.plus(parquet.digest_of_batch(kept, fields))
                    writer.write(parquet.library().Table.from_batches([kept]))
            writer.close()
    watch("rewritten")
    if expected.rows == archive.rows:
        files.discard(fresh)
        return archive
    if not expected.rows:
        files.discard(fresh)
        await listing.forget(connection, archive)
        return None
    changed = msgspec.structs.replace(
        archive, path=relative, rows=expected.rows, size=fresh.stat().st_size, digest=str(expected),
        sha256=await verified(fresh, fields, expected, directory),
    )  # fmt: skip
    if not await connection.fetchval(
        _SWAP, archive.id, changed.path, changed.rows, changed.size, changed.sha256, changed.digest, archive.path
    ):
        files.discard(fresh)
        raise ConfigError(f"the archive {path} was changed by another process: do it again")
    watch("swapped")
    return changed


def finish(directory: Path, before: Archive, after: Archive | None) -> None:
    """Give the new file its name and delete the old one. Call it after the commit of `rewrite`."""
    with files.explained(directory):
        if after is not None and after.path != before.path:
            fresh, path = files.partial(directory / after.path), directory / after.path
            if fresh.exists():
                files.give_name(fresh, path)
        if after is None or after.path != before.path:
            files.discard(directory / before.path)
