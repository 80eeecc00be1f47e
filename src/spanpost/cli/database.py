"""``spanpost db``: maintain the database."""

from __future__ import annotations

from typing import Annotated

import typer

from spanpost.cli.options import DatabaseUrl, DataDir, Json, print_json, settings_of

db = typer.Typer(help="Maintain the database.", no_args_is_help=True)


@db.command("upgrade", short_help="Upgrade the tables to this version.")
def upgrade(as_json: Json = False, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Upgrade the database's tables to this version, without downtime. Safe to repeat."""
    from spanpost.runtime import maintenance

    revision = maintenance.upgrade_database(settings_of(database_url, data_dir))
    if as_json:
        print_json({"revision": revision})
    else:
        print(f"the database is at revision {revision}")


@db.command("prune", short_help="Delete old rows.")
def prune(
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", metavar="TIME", help="Minimum age of deleted rows: 90d, 12w or 36h.", show_default=False
        ),
    ],
    is_done: Annotated[
        bool, typer.Option("--yes", help="Delete. Without it, the command only prints what it would delete.")
    ] = False,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Delete old audit rows, state of closed traces, and deliveries that arrived.

    Rows of a task are kept unless it is complete, failed or cancelled and has not changed since. Tasks and
    checkpoints stay.
    """
    from spanpost.cli import tables
    from spanpost.runtime import maintenance

    age = tables.age(older_than)
    pruned = maintenance.prune_database(settings_of(database_url, data_dir), age, is_done=is_done)
    if as_json:
        from msgspec import to_builtins

        print_json(to_builtins(pruned))
    else:
        tables.print_pruned(pruned)


@db.command("grant", short_help="Grant database roles the least rights that they need.")
def grant(
    writer: Annotated[
        str, typer.Option("--writer", metavar="ROLE", help="Role of a gateway or an agent, which records.")
    ] = "",
    reader: Annotated[
        str, typer.Option("--reader", metavar="ROLE", help="Role of Grafana or of `db query`, which reads.")
    ] = "",
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Grant existing roles the rights that writing or reading needs, revoke all other rights on spanpost's
    tables, and print the SQL.

    Run it with the role that owns the tables. `spanpost db upgrade` grants the same on new tables.
    """
    from spanpost.runtime import maintenance

    made = maintenance.grant_roles(settings_of(database_url, data_dir), writer=writer, reader=reader)
    if as_json:
        print_json({"granted": made})
    else:
        print("\n".join(f"{statement};" for statement in made))


@db.command("end-sessions", short_help="Log everybody out of all gateways.")
def end_sessions(as_json: Json = False, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """End the sessions of all people who logged in, by replacing the secret that signs them. Gateways
    notice within five seconds.
    """
    from spanpost.runtime import maintenance

    maintenance.end_sessions(settings_of(database_url, data_dir))
    if as_json:
        print_json({"ended": True})
    else:
        print("all sessions are ended")


@db.command("query", short_help="Run SQL that reads.")
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One statement that reads.")],
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Run one SQL statement that reads (SELECT, WITH, VALUES, TABLE, EXPLAIN or SHOW; a minute at most),
    with a role that can only read: the embedded database's reader, the role of `database.read_url`, or the role
    of `--database-url`. docs/how-to/read-the-audit-rows.md describes the tables.
    """
    from spanpost.cli import query as sql_query

    settings = settings_of(database_url, data_dir)
    url = settings.dsn if database_url is not None else settings.read_dsn
    columns, rows = sql_query.query(settings.database, url, sql)
    if as_json:
        print_json({"rows": [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        from spanpost.cli import tables

        tables.print_rows(columns, rows)
