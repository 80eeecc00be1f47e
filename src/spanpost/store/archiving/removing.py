"""Delete the rows of an archive from their table, exactly those that its file holds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg

from spanpost.model.acts import Operation
from spanpost.model.errors import ConfigError
from spanpost.model.interventions import Actor
from spanpost.store.archiving import files, parquet
from spanpost.store.archiving.listing import Archive
from spanpost.store.archiving.pacing import DutyCycle
from spanpost.store.archiving.sources import KEPT, SOURCES, SUMS, RowsDigest, Source, digest_of, fields_of
from spanpost.store.archiving.writing import Watch
from spanpost.store.intervention_rows import note_operation
from spanpost.store.sealing.forgetting import RowQuery, removed

_SET: Final = """
UPDATE archives SET state = 'removed', removed_at = clock_timestamp(), restored_until = NULL
WHERE id = $1 AND state <> 'removed' AND sha256 = $2 RETURNING true"""


#: Keys of one statement.
_AT_ONCE: Final = 32_768
#: Tables whose rows the sealed log names, and the query of these rows by their keys.
_SEALED: Final = {
    "audit_rows": RowQuery(
        "audit_rows", "SELECT * FROM unnest($1::text[]::timestamptz[], $2::text[]::uuid[], $3::text[]::int8[])"
    ),
    "human_interventions": RowQuery("human_interventions", "SELECT unnest($1::text[]::uuid[])"),
}


class RowsChanged(Exception):
    """The rows in the table are not those of the file any more."""


async def remove(
    connection: Any, directory: Path, archive: Archive, *, actor: Actor, watch: Watch, pace: DutyCycle
) -> None:
    """Delete the rows of a listed archive from their table, and set its state to `removed`, in one transaction.

    Raises `RowsChanged` when a row was changed, deleted or is kept again: then nothing is deleted. Raises `ConfigError`
    when the file is not the listed one, or the owner does not allow the deletion.
    """
    source, path = SOURCES[archive.source], directory / archive.path
    with files.explained(directory):
        if await asyncio.to_thread(files.hash_of, path) != archive.sha256:
            raise ConfigError(f"the archive {path} is not the file that was written: its rows stay in the database")
    fields = await fields_of(connection, source)
    kinds = {field.name: field.kind for field in fields}
    types = {field.name: field.type for field in fields}
    select = _selected(source, types, digest_of(fields))
    found = RowsDigest(0, 0, 0)
    deleted = 0
    gone: tuple[list[str], ...] = ([], [], [])
    try:
        async with connection.transaction(isolation="read_committed"):
            for batch in parquet.batches(path, list(source.key), _AT_ONCE):
                keys = parquet.key_texts(batch, source.key, kinds)
                keys += [[]] * (3 - len(keys))
                row = await connection.fetchrow(select, archive.tenant, archive.cut, *keys)
                found = found.plus(RowsDigest(row["rows"], int(row["high"]), int(row["low"])))
                deleted += await connection.fetchval(
                    "SELECT spanpost_remove($1, $2, $3, $4, $5)", source.target, archive.tenant, *keys
                )
                for all_keys, more in zip(gone, keys, strict=True):
                    all_keys += more
                await pace.rest()
            if str(found) != archive.digest:
                raise RowsChanged
            if deleted != archive.rows:
                raise ConfigError(await _floor(connection, source))
            watch("deleted")
            done = Operation("archive", actor.id, _described(archive), source=actor.provider)
            act = await note_operation(connection, done)
            await _note(connection, archive, gone, actor.id, act)
            if not await connection.fetchval(_SET, archive.id, archive.sha256):
                raise RowsChanged
        watch("removed")
    except asyncpg.DeadlockDetectedError as error:
        raise RowsChanged from error


async def note_in_log(connection: Any, path: Path, archive: Archive, *, actor: str, act: UUID) -> None:
    """Note in the sealed log which rows an archive holds now that its file was made again: `path`, in the transaction.

    The log then has the SHA-256 of the file as it is.
    """
    source = SOURCES[archive.source]
    if source.target not in _SEALED:
        return
    kinds = {field.name: field.kind for field in parquet.fields_in(path)}
    keys: tuple[list[str], ...] = ([], [], [])
    for batch in parquet.batches(path, list(source.key), _AT_ONCE):
        for all_keys, more in zip(keys, parquet.key_texts(batch, source.key, kinds), strict=False):
            all_keys += more
    await _note(connection, archive, keys, actor, act)


async def _note(connection: Any, archive: Archive, keys: tuple[list[str], ...], actor: str, act: UUID) -> None:
    source = SOURCES[archive.source]
    if source.target in _SEALED:
        rows = _SEALED[source.target]._replace(arguments=keys[: len(source.key)])
        reason = f"archived in {archive.path}"
        await removed(connection, archive.tenant, rows, actor=actor, reason=reason, act=act, archive=archive.sha256)


def _selected(source: Source, types: dict[str, str], digest: str) -> str:
    """Return the SQL of the digest of rows with these keys ($3 to $5) that are not kept.

    It locks them, so that what is compared is what is deleted.
    """
    match = " AND ".join(f"r.{name} = k.k{i}::{types[name]}" for i, name in enumerate(source.key, 1))
    kept = KEPT.replace("$4", "$2")
    is_old = source.is_old.replace("$4", "$2")
    # The lateral join with its LIMIT makes the planner use the index, whatever it thinks of a list of keys.
    return (
        f"WITH {kept} SELECT {SUMS} FROM (SELECT {digest} AS m"
        f" FROM unnest($3::text[], $4::text[], $5::text[]) AS k(k1, k2, k3) CROSS JOIN LATERAL"
        f" (SELECT r.*, r.tableoid FROM {source.relation} r WHERE {match} AND r.tenant = $1 LIMIT 1 FOR UPDATE) r"
        f" {source.join} WHERE {is_old} OFFSET 0) d"
    )


async def _floor(connection: Any, source: Source) -> str:
    shortest = await connection.fetchval("SELECT shortest::text FROM retention_floors WHERE source = $1", source.target)
    return (
        f"rows of {source.target} may be removed only when they are older than {shortest}, as the owner of the tables "
        "allows: set a longer retention, or let the owner run `spanpost archive allow`"
    )


def _described(archive: Archive) -> str:
    return (
        f"{archive.rows} rows of {archive.source}, {archive.month:%Y-%m}, tenant {archive.tenant}, to {archive.path},"
        f" SHA-256 {archive.sha256.hex()}"
    )
