"""The rows of `archives`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

import msgspec


class Archive(msgspec.Struct, kw_only=True, frozen=True):
    """One archive: a file with rows of one tenant, table and month."""

    id: UUID
    tenant: str
    source: str
    month: date
    part: int
    path: str
    rows: int
    size: int
    sha256: bytes
    digest: str
    cut: datetime
    is_last: bool
    #: written, removed or restored.
    state: str
    written_at: datetime | None = None
    removed_at: datetime | None = None
    restored_until: datetime | None = None


_COLUMNS: Final = tuple(field.name for field in msgspec.structs.fields(Archive))
_LISTED: Final = f"""
SELECT {", ".join(_COLUMNS)} FROM archives
WHERE ($1::text IS NULL OR tenant = $1) AND ($2::text IS NULL OR source = $2) AND ($3::date IS NULL OR month = $3)
  AND ($4::text[] IS NULL OR state = ANY($4)) AND ($5::uuid IS NULL OR id = $5)
ORDER BY tenant, source, month, part"""
_NEW: Final = _COLUMNS[: _COLUMNS.index("written_at")]
_ADD: Final = f"INSERT INTO archives ({', '.join(_NEW)}) VALUES ({', '.join(f'${i + 1}' for i in range(len(_NEW)))})"


async def archives(
    connection: Any,
    *,
    tenant: str | None = None,
    source: str | None = None,
    month: date | None = None,
    states: Sequence[str] | None = None,
    id: UUID | None = None,
) -> list[Archive]:
    """Return the archives of these tenants, tables, months and states; all without a restriction."""
    rows = await connection.fetch(_LISTED, tenant, source, month, list(states) if states is not None else None, id)
    return [Archive(**{name: _value(row[name]) for name in _COLUMNS}) for row in rows]


def _value(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


async def add(connection: Any, archive: Archive) -> None:
    """List an archive."""
    await connection.execute(_ADD, *[getattr(archive, name) for name in _NEW])


async def forget(connection: Any, archive: Archive) -> None:
    """Take an archive off the list."""
    await connection.execute("DELETE FROM archives WHERE id = $1", archive.id)
