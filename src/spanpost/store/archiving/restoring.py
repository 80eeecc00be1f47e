"""Put the rows of archives back into the tables, or into a schema of their own."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from spanpost.model.errors import ConfigError
from spanpost.store.archiving import files, parquet
from spanpost.store.archiving.listing import Archive
from spanpost.store.archiving.sources import SOURCES, fields_of, typed

_RESTORED: Final = """
UPDATE archives SET state = 'restored', restored_until = clock_timestamp() + $2 WHERE id = $1 AND state = 'removed'"""


async def restore(
    connection: Any, directory: Path, archive: Archive, *, keep: timedelta, schema: str | None = None
) -> int:
    """Insert the rows of an archive; return their number. Rows that exist stay as they are.

    Without a schema they go into their table for the time `keep`, and are removed again afterwards. With one, they go
    into a table of that schema, which is made where it is missing. Raises `ConfigError` when the file is missing or is
    not the listed one.
    """
    source, path = SOURCES[archive.source], directory / archive.path
    with files.explained(directory):
        if files.hash_of(path) != archive.sha256:
            raise ConfigError(f"the archive {path} is not the file that was written: restore it from a backup first")
    table = [field for field in await fields_of(connection, source) if field.name in _names(path)]
    names = ", ".join(f'"{name}"' for name in (*(field.name for field in table), *source.emptied))
    into = f'"{source.target}"'
    async with connection.transaction():
        if schema is not None:
            quoted = '"' + schema.replace('"', '""') + '"'
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
            own = await connection.fetchval("SELECT current_schema()")
            await connection.execute(
                f'CREATE TABLE IF NOT EXISTS {quoted}.{into} (LIKE "{own}".{into} INCLUDING DEFAULTS, PRIMARY KEY'
                f" ({', '.join(source.key)}))"
            )
            into = f"{quoted}.{into}"
        columns = ", ".join(f'"{field.name}" text' for field in table)
        await connection.execute(f"CREATE TEMP TABLE restored ({columns}) ON COMMIT DROP")
        for batch in parquet.batches(path, [field.name for field in table]):
            await connection.copy_to_table("restored", source=_csv(batch), format="csv")
        values = ", ".join(typed(field) for field in table)
        values += ", NULL" * len(source.emptied)
        done = await connection.execute(
            f"INSERT INTO {into} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM restored ON CONFLICT DO NOTHING"
        )
        if schema is None:
            await connection.execute(_RESTORED, archive.id, keep)
    return int(done.rpartition(" ")[2])


def _names(path: Path) -> set[str]:
    return {field.name for field in parquet.fields_in(path)}


async def _csv(batch: Any) -> AsyncIterator[bytes]:
    pa = parquet.library()
    sink = io.BytesIO()
    # Text is quoted, so that an empty one is no null.
    pa.csv.write_csv(
        pa.Table.from_arrays(parquet.plain_texts(batch), names=batch.schema.names),
        sink,
        pa.csv.WriteOptions(include_header=False),
    )
    yield sink.getvalue()
