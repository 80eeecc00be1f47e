"""``spanpost db``: look after the database."""

from __future__ import annotations

from typing import Annotated

import typer

from spanpost.cli.options import DatabaseUrl, DataDir, Json, print_json, settings_of

db = typer.Typer(help="Look after the database.", no_args_is_help=True)


@db.command("upgrade", short_help="Bring the tables to this version.")
def upgrade(as_json: Json = False, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Bring the database's tables to this version, without downtime. Safe to repeat."""
    from spanpost import assembly

    revision = assembly.upgrade_database(settings_of(database_url, data_dir))
    if as_json:
        print_json({"revision": revision})
    else:
        print(f"the database is at revision {revision}")


@db.command("prune", short_help="Let go of what is old.")
def prune(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="Age from which on things go: 90d, 12w or 36h.", show_default=False)
    ],
    is_done: Annotated[bool, typer.Option("--yes", help="Do it. Without, it is only said what would go.")] = False,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Let go of old audit rows, of what is remembered of closed traces, and of letters that arrived.

    Nothing of a task goes that is not complete, failed or cancelled, or that changed since. Tasks and checkpoints stay.
    """
    from spanpost import assembly
    from spanpost.cli import tables

    age = tables.age(older_than)
    pruned = assembly.prune_database(settings_of(database_url, data_dir), age, is_done=is_done)
    if as_json:
        from msgspec import to_builtins

        print_json(to_builtins(pruned))
    else:
        tables.print_pruned(pruned)


@db.command("query", short_help="Run SQL that reads.")
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One statement that reads.")],
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Run a reading SQL statement; the tables are described in docs/how-to/read-the-audit-rows.md."""
    from spanpost.cli import query as sql_query

    columns, rows = sql_query.query(settings_of(database_url, data_dir), sql)
    if as_json:
        print_json({"rows": [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        from spanpost.cli import tables

        tables.print_rows(columns, rows)
