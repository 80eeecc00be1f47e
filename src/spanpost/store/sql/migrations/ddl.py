"""Builders of DDL statements in which every column has a comment."""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op

#: Name, type with constraints, comment.
Column = tuple[str, str, str]


def run(statement: str) -> None:
    """Run a statement of a migration as it is, or write it down where there is no connection."""
    migration = op.get_context()
    if migration.as_sql:
        migration.impl.static_output(f"{statement};")
    else:
        op.get_bind().exec_driver_sql(statement)


def table(
    name: str,
    comment: str,
    columns: Sequence[Column],
    *,
    rules: Sequence[str] = (),
    options: str = "",
    indexes: Sequence[str] = (),
) -> list[str]:
    """Return the statements that make a table, the comments on it and its columns, and its `indexes`."""
    body = ",\n  ".join([f"{column} {kind}" for column, kind, _ in columns] + list(rules))
    return [
        f"CREATE TABLE {name} (\n  {body}\n) {options}".strip(),
        *comments("TABLE", name, comment, columns),
        *indexes,
    ]


def view(name: str, comment: str, columns: Sequence[Column], source: str) -> list[str]:
    """Return the statements that make a view. A column's second part is its expression."""
    body = ",\n  ".join(f"{expression} AS {column}" for column, expression, _ in columns)
    return [f"CREATE VIEW {name} AS SELECT\n  {body}\n{source}", *comments("VIEW", name, comment, columns)]


def comments(kind: str, name: str, comment: str, columns: Sequence[Column]) -> list[str]:
    """Return the COMMENT statements of a table or view and its columns."""
    about = [f"COMMENT ON {kind} {name} IS {_quote(comment)}"]
    return about + [f"COMMENT ON COLUMN {name}.{column} IS {_quote(text)}" for column, _, text in columns]


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def add_columns(table: str, columns: Sequence[Column]) -> list[str]:
    """Return the statements that add columns with comments.

    Each needs a default or may be null, for older gateways.
    """
    added = ", ".join(f"ADD COLUMN {column} {kind}" for column, kind, _ in columns)
    about = [f"COMMENT ON COLUMN {table}.{column} IS {_quote(text)}" for column, _, text in columns]
    return [f"ALTER TABLE {table} {added}", *about]
