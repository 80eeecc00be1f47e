"""Rows of launch orders."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.launch_orders import Order
from spanpost.store.rows import json_text, tidy

COLUMNS = (
    "id", "tenant", "carrier", "text", "parameters", "retry_of", "caused_by", "task_uid", "run", "depth", "source",
    "by", "by_id", "rule", "body", "at",
)  # fmt: skip
SELECT = ", ".join(f"o.{c}" if c != "parameters" else "o.parameters::text" for c in COLUMNS)
PLACE = (
    f"INSERT INTO launch_orders ({', '.join(COLUMNS)}) VALUES ("
    + ", ".join(f"${i}" if c != "parameters" else f"${i}::text::jsonb" for i, c in enumerate(COLUMNS, 1))
    + ") ON CONFLICT (id) DO NOTHING RETURNING true"
)


def of_row(row: Any) -> Order:
    """Return the order of a row."""
    values = {name: row[name] for name in COLUMNS}
    values["parameters"] = msgspec.json.decode(values["parameters"])
    return Order(**values)


def values_of(order: Order) -> list[Any]:
    """Return the parameters of `PLACE`, with texts that PostgreSQL accepts; the body stays as received."""
    clean = tidy(msgspec.structs.replace(order, body=b""))
    values = [getattr(clean, column) for column in COLUMNS]
    values[COLUMNS.index("parameters")] = json_text(clean.parameters)
    values[COLUMNS.index("body")] = order.body
    return values


async def known(connection: Any, ids: Iterable[UUID]) -> dict[UUID, Order]:
    """Return the existing orders among `ids`, by id."""
    wanted = list(ids)
    if not wanted:
        return {}
    rows = await connection.fetch(f"SELECT {SELECT} FROM launch_orders o WHERE o.id = ANY($1::uuid[])", wanted)
    return {row["id"]: of_row(row) for row in rows}
