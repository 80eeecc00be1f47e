"""``spanpost archive``: archive old rows, list archives, restore and query them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from spanpost.cli.options import DatabaseUrl, DataDir, Json, note_read, print_json, settings_of
from spanpost.model.acts import ContentKind
from spanpost.model.errors import ConfigError

archive = typer.Typer(help="Archive old rows; list, restore and query archives.", no_args_is_help=True)

Tenant = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only archives of this tenant.")]
Table = Annotated[str | None, typer.Option("--table", metavar="NAME", help="Only archives of this table.")]


@archive.command("run", short_help="Archive what is older than its retention.")
def run(
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Only print what would be archived.")] = False,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Archive the months that are older than their retention, and remove their rows from the database. A gateway does
    the same on its schedule.

    Rows of a task are kept unless it is complete, failed or cancelled and has not changed since. The command can be
    interrupted and repeated at any moment.
    """
    from msgspec import to_builtins

    from spanpost.cli import tables
    from spanpost.runtime import archives

    settings = settings_of(database_url, data_dir)
    with _progress("archiving") as show:
        done = archives.run_archive(settings, is_done=not is_dry, show=show)
    if as_json:
        print_json(to_builtins(done))
        return
    cells = [(month.tenant, month.source, month.month, month.rows) for month in done.months]
    tables.print_rows(("tenant", "table", "month", "would be archived" if is_dry else "archived"), cells)
    print(
        f"records that only place telemetry: {done.placement}; rows without archives: {done.pruned}; "
        f"months left for the next run: {done.left}",
        file=sys.stderr,
    )
    if settings.retention.directory is None:
        print("no rows leave the tables: retention.directory is not set", file=sys.stderr)


@archive.command("list", short_help="List archives.")
def list_archives(
    tenant: Tenant = None,
    table: Table = None,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List the archives: tenant, table, month, rows, size, SHA-256 and state."""
    from spanpost.cli import tables
    from spanpost.runtime import archives

    found = archives.list_archives(settings_of(database_url, data_dir), tenant, table)
    names = ("id", "tenant", "table", "month", "part", "rows", "bytes", "state", "path", "sha256")
    cells = [
        (str(a.id), a.tenant, a.source, f"{a.month:%Y-%m}", a.part, a.rows, a.size, a.state, a.path, a.sha256.hex())
        for a in found
    ]
    if as_json:
        print_json({"archives": [dict(zip(names, row, strict=True)) for row in cells]})
    elif not found:
        print("there are no archives", file=sys.stderr)
    else:
        tables.print_rows(names, cells)


@archive.command("restore", short_help="Put archived rows back.")
def restore(
    month: Annotated[str, typer.Option("--month", metavar="YYYY-MM", help="Month of the archives.")],
    tenant: Tenant = None,
    table: Table = None,
    schema: Annotated[
        str | None,
        typer.Option("--into", metavar="SCHEMA", help="Schema to restore into; it is made. Without it: the tables."),
    ] = None,
    keep: Annotated[
        str, typer.Option("--keep", metavar="TIME", help="How long the rows stay in the tables: 30d, 12w or 36h.")
    ] = "30d",
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Put the rows of a month's archives back into the tables, or into a schema of their own.

    The files stay. In the tables the rows stay for the time of --keep. Rows that exist are not changed.
    """
    from spanpost.cli import tables
    from spanpost.runtime import archives

    settings = settings_of(database_url, data_dir)
    age = tables.age(keep, "--keep")
    chosen = [a for a in archives.list_archives(settings, tenant, table) if f"{a.month:%Y-%m}" == month]
    if not chosen:
        raise ConfigError(f"--month {month}: there is no such archive; `spanpost archive list` shows all")
    with _progress("restoring") as show:
        rows = archives.restore_archives(settings, chosen, age, schema, show)
    if as_json:
        print_json({"archives": len(chosen), "rows": rows})
    else:
        print(f"{rows} rows of {len(chosen)} archives are restored")


@archive.command("query", short_help="Run SQL on archives.")
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One statement of DuckDB's SQL.")],
    tenant: Tenant = None,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Run one SQL statement on the archives with DuckDB. Each archived table has the name that it has in the database;
    the columns of audit_rows are those of agent_events. The statement can read no other files and change nothing.
    """
    from spanpost.runtime import archives

    settings = settings_of(database_url, data_dir)
    note_read(settings, ContentKind.QUERY, tenant=tenant or "", detail=sql)
    columns, rows = archives.query_archives(settings, sql, tenant)
    if as_json:
        print_json({"rows": [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        from spanpost.cli import tables

        tables.print_rows(columns, rows)


@archive.command("allow", short_help="Allow a gateway to remove younger rows.")
def allow(
    shortest: Annotated[str, typer.Argument(metavar="TIME", help="Shortest retention: 90d, 12w or 36h.")],
    table: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="NAME", help="Only for this table; may be repeated. Without it: for all."),
    ] = None,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Store the shortest time for which rows have to be kept: a gateway's role can remove only rows that are older.

    Run it with the role that owns the tables. Without it, the time is 183 days, and seven for deliveries.
    """
    from spanpost.cli import tables
    from spanpost.runtime import archives

    archives.allow_shorter(settings_of(database_url, data_dir), tables.age(shortest, "TIME"), table or [])
    if as_json:
        print_json({"allowed": shortest})
    else:
        print(f"rows older than {shortest} may be removed")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yield a function that shows how far the work is; it shows nothing unless a person is watching."""
    if not sys.stderr.isatty():
        yield lambda done, total, about: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what)

        def show(done: int, total: int, about: str) -> None:
            progress.update(task, completed=done, total=total, description=f"{what} {about}")

        yield show
