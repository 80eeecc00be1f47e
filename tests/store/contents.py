"""Everything that a store holds, as texts: the rows of every table, and the objects of the store in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from spanpost.readers.redaction import Redaction
from spanpost.store.compression import decompressed


async def columns(database: Any) -> AsyncIterator[tuple[str, str]]:
    """Yield every value of every row of every table, decompressed, with `table.column`."""
    tables = await database.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition"
    )
    for (table,) in tables:
        for row in await database.fetch(f"SELECT * FROM {table}"):
            for column, value in row.items():
                yield f"{table}.{column}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        with suppress(ValueError):
            value = decompressed(value)
        return value.decode("utf-8", "replace")
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return str(value)


def texts(store: object) -> Iterator[str]:
    """Yield the texts that can be reached from a store in memory. Its rules are no content."""
    seen: set[int] = set()
    left = [store]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, bytes):
            yield _text(one)
        elif id(one) not in seen and not isinstance(one, type | Redaction):
            seen.add(id(one))
            left += _parts(one)


def _parts(one: Any) -> list[Any]:
    if isinstance(one, Mapping):
        return [*one.keys(), *one.values()]
    if isinstance(one, list | tuple | set | frozenset | deque):
        return list(one)
    if isinstance(one, msgspec.Struct):
        return [getattr(one, name) for name in one.__struct_fields__]
    if not type(one).__module__.startswith("spanpost."):
        return []
    fields = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
    return [*vars(one).values()] if not fields else [getattr(one, name) for name in fields if hasattr(one, name)]
