"""The condition of SQL that a key or an id begins so."""

from __future__ import annotations

from typing import Any

from spanpost.model.queries import bounds


def beginning(key: str, id: str, begins: str, values: list[Any]) -> str:
    """Return the condition that a key or an id begins so, and append its values."""
    values.append(begins)
    condition = f"starts_with({id}, ${len(values)})"
    if (within := bounds(begins)) is not None:
        values += within
        condition = f"({condition} OR {key} BETWEEN ${len(values) - 1} AND ${len(values)})"
    return condition
