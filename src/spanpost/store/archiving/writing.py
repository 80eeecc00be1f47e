"""Write one archive: copy old rows of a month into a file, verify it, list it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

from spanpost.store.archiving import files, listing, parquet
from spanpost.store.archiving.listing import Archive
from spanpost.store.archiving.pacing import DutyCycle
from spanpost.store.archiving.sources import SOURCES, ArchiveField, RowsDigest, Source, digest_of, fields_of, old

#: Bytes of CSV that become one piece of a file.
_PIECE: Final = 16 << 20
#: A named step of the work; called before and after what must not be interrupted unnoticed.
Watch = Callable[[str], None]


class Month(NamedTuple):
    """Old rows of one tenant, table and month. The times are by the database's clock."""

    tenant: str
    source: str
    opens: datetime
    ends: datetime
    #: Rows of a task that changed since then are kept.
    cut: datetime
    #: SQL that bounds what is searched.
    within: str = "true"


async def write(
    connection: Any, directory: Path, month: Month, most: int, watch: Watch, pace: DutyCycle
) -> Archive | None:
    """Write at most `most` old rows of a month to a file and list it; return None without any.

    Raises `ConfigError` when the file system refuses or the file is not what the database has. The rows stay.
    """
    source = SOURCES[month.source]
    fields = await fields_of(connection, source)
    id = uuid4()
    found = await connection.fetchval(
        "SELECT coalesce(max(part), 0) + 1 FROM archives WHERE tenant = $1 AND source = $2 AND month = $3",
        month.tenant, month.source, month.opens.date(),
    )  # fmt: skip
    relative = files.path_of(month.tenant, month.source, month.opens.date(), found, id)
    path = directory / relative
    fresh = files.partial(path)
    try:
        with files.explained(directory):
            context = files.created(fresh)
            file = context.__enter__()
        try:
            expected = await _copy(connection, file, source, fields, month, most, directory, pace)
        except BaseException as error:
            context.__exit__(type(error), error, error.__traceback__)
            raise
        with files.explained(directory):
            context.__exit__(None, None, None)
        if not expected.rows:
            files.discard(fresh)
            return None
        watch("copied")
        archive = Archive(
            id=id, tenant=month.tenant, source=month.source, month=month.opens.date(), part=found, path=relative,
            rows=expected.rows, size=fresh.stat().st_size, sha256=await verified(fresh, fields, expected, directory),
            digest=str(expected), cut=month.cut, is_last=expected.rows < most, state="written",
        )  # fmt: skip
        watch("verified")
    except BaseException:
        with files.explained(directory):
            files.discard(fresh)
        raise
    await listing.add(connection, archive)
    watch("listed")
    with files.explained(directory):
        files.give_name(fresh, path)
    watch("named")
    return archive


async def verified(path: Path, fields: list[ArchiveField], expected: RowsDigest, directory: Path) -> bytes:
    """Read a file back; return its SHA-256. Raises `ConfigError` when it does not hold the expected rows."""
    from spanpost.model.errors import ConfigError

    with files.explained(directory):
        found = await asyncio.to_thread(parquet.digest_of_file, path, fields)
        if found != expected:
            raise ConfigError(
                f"the archive {path} does not hold what the database has ({found} instead of {expected}): nothing was "
                "deleted; check the disk"
            )
        return await asyncio.to_thread(files.hash_of, path)


async def _copy(
    connection: Any,
    file: int,
    source: Source,
    fields: list[ArchiveField],
    month: Month,
    most: int,
    directory: Path,
    pace: DutyCycle,
) -> RowsDigest:
    """Copy rows into a file; return their digest: the sum of what the database computed for each."""
    found = RowsDigest(0, 0, 0)
    order = f"ORDER BY {source.at}, {', '.join(f'r.{name}' for name in source.key)} LIMIT $5"
    chosen = old(source, "r.*", month.within, order)
    # The chosen rows stand for the table; their order is that of the file.
    rest = f"FROM ({chosen}) r {source.join}"
    given = (month.tenant, month.opens, month.ends, month.cut, most)
    about = {"spanpost.tenant": month.tenant, "spanpost.source": source.name, "spanpost.month": f"{month.opens:%Y-%m}"}
    buffer = bytearray()

    async def write_piece() -> None:
        data = bytes(buffer)
        buffer.clear()

        def work() -> RowsDigest:
            with files.explained(directory):
                table, digest = parquet.read_csv(data, fields)
                writer.write(table)
                return digest

        nonlocal found
        found = found.plus(await asyncio.to_thread(work))
        await pace.rest()

    async def take(data: bytes) -> None:
        buffer.extend(data)  # rows are never cut
        if len(buffer) >= _PIECE:
            await write_piece()

    async with connection.transaction(isolation="repeatable_read", readonly=True):
        writer = parquet.Writer(file, fields, about)
        try:
            await connection.copy_from_query(
                f"SELECT {', '.join(f'{field.copied}' for field in fields)}, {digest_of(fields)} {rest}",
                *given, output=take, format="csv",
            )  # fmt: skip
            if buffer:
                await write_piece()
        finally:
            with files.explained(directory):
                writer.close()
    return found
