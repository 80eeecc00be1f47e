"""``spanpost db``: maintain the database."""

from __future__ import annotations

from typing import Annotated

import typer

from spanpost.cli.options import DatabaseUrl, DataDir, Json, note_read, print_json, settings_of
from spanpost.model.acts import ContentKind

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


@db.command("schema", short_help="Print the tables as SQL.")
def print_schema() -> None:
    """Print the tables of this version as SQL, for those who review or make them: `spanpost db schema > schema.sql`,
    then `psql -f schema.sql`. It is what `spanpost db upgrade` runs, which finds nothing to do afterwards.
    """
    from spanpost.store.sql import schema_text

    print(schema_text.written(), end="")


@db.command("reset", short_help="Delete all rows and make the tables anew.")
def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Delete all rows.")] = False,
    database: Annotated[
        str, typer.Option("--database", metavar="NAME", help="Name of the database, unless it is the embedded one.")
    ] = "",
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Drop spanpost's tables with all their rows and make them anew: for development. It needs `--yes`, and for a
    database other than the embedded one its name (`--database`). Other tables there stay, and so do archives,
    journals and spools on disk. Stop gateways and agents first.
    """
    from spanpost.model.errors import ConfigError
    from spanpost.runtime import maintenance

    if not yes:
        raise ConfigError("db reset: it deletes all tasks, checkpoints and audit rows for ever; if you mean it: --yes")
    revision = maintenance.reset_database(settings_of(database_url, data_dir), database)
    if as_json:
        print_json({"revision": revision})
    else:
        print(f"all rows are deleted; the database is at revision {revision}")


@db.command("grant", short_help="Grant database roles the least rights that they need.")
def grant(
    writer: Annotated[
        str, typer.Option("--writer", metavar="ROLE", help="Role of a gateway or an agent, which records.")
    ] = "",
    reader: Annotated[
        str, typer.Option("--reader", metavar="ROLE", help="Role of Grafana or of `db query`, which reads.")
    ] = "",
    tenants: Annotated[
        list[str] | None,
        typer.Option(
            "--tenant",
            metavar="TENANT",
            help="The reader sees the rows of this tenant alone; give it several times for several. Needs PostgreSQL "
            "15 and a writer with BYPASSRLS.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Grant existing roles the rights that writing or reading needs, revoke all other rights on spanpost's
    tables, and print the SQL.

    Run it with the role that owns the tables. `spanpost db upgrade` grants the same on new tables.
    """
    from spanpost.runtime import maintenance

    made = maintenance.grant_roles(
        settings_of(database_url, data_dir), writer=writer, reader=reader, tenants=tenants or ()
    )
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
    sql_query.refuse_other(sql)
    note_read(settings, ContentKind.QUERY, detail=sql)
    url = settings.dsn if database_url is not None else settings.read_dsn
    columns, rows = sql_query.query(settings.database, url, sql)
    if as_json:
        print_json({"rows": [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        from spanpost.cli import tables

        tables.print_rows(columns, rows)
