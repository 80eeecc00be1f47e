"""``spanpost quarantine``: list what could not be recorded, try it again, discard it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, cast

import typer

from spanpost.cli.options import DatabaseUrl, DataDir, Json, ask, noted, print_json, say_count, settings_of
from spanpost.model.errors import ConfigError

if TYPE_CHECKING:
    from spanpost.model.quarantine import QuarantineFilter
    from spanpost.store.postgres import PostgresStore
    from spanpost.store.protocols import Store
    from spanpost.store.quarantined import Quarantined

quarantine = typer.Typer(help="List what could not be recorded, try it again, and discard it.", no_args_is_help=True)

Ids = Annotated[list[int] | None, typer.Argument(metavar="ID", help="Ids of rows, as `quarantine list` shows them.")]
Reason = Annotated[
    str | None, typer.Option("--reason", metavar="REASON", help="Only rows with this reason: over_budget, too_large.")
]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="TENANT", help="Only rows of this tenant.")]


@quarantine.command("list")
def list_rows(
    as_json: Json = False,
    reason: Reason = None,
    tenant: Tenant = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="Maximum number of rows.")
    ] = 100,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List observations and request bodies that could not be recorded, the last ones first."""
    import msgspec

    which = _filter(None, reason, tenant)
    rows = ask(settings_of(database_url, data_dir), lambda store: _rows_of(store).list(which, limit))
    if as_json:
        print_json({"quarantine": msgspec.to_builtins(rows)})
    elif not rows:
        print("nothing is in quarantine", file=sys.stderr)
    else:
        from spanpost.cli import tables

        columns = ("id", "tenant", "source", "reason", "bytes", "times", "last", "error")
        cells = [(r.id, r.tenant, r.source, r.reason, r.size, r.attempts, r.last_at, r.error) for r in rows]
        tables.print_rows(columns, cells)


@quarantine.command("retry")
def retry_rows(
    ids: Ids = None,
    reason: Reason = None,
    tenant: Tenant = None,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Record observations again, after the cause was mended: a newer release, or more of `database.trace_budget`.
    Request bodies are skipped: their senders must send them again.
    """
    import msgspec

    which = _filter(ids, reason, tenant, command="retry")
    settings = settings_of(database_url, data_dir)
    done = noted(settings, "retry_quarantined", _detail(which), lambda store: _rows_of(store).retry(which))
    if as_json:
        print_json(msgspec.to_builtins(done))
    else:
        print(f"recorded: {done.recorded}, failed as before: {done.kept}, skipped: {done.skipped}")


@quarantine.command("discard")
def discard_rows(
    ids: Ids = None,
    reason: Reason = None,
    tenant: Tenant = None,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Delete rows with their bytes."""
    which = _filter(ids, reason, tenant, command="discard")
    settings = settings_of(database_url, data_dir)
    done = noted(settings, "discard_quarantined", _detail(which), lambda store: _rows_of(store).discard(which))
    say_count("discarded", done, as_json=as_json)


def _rows_of(store: Store) -> Quarantined:
    return cast("PostgresStore", store).quarantined  # the command line opens no other store


def _filter(ids: list[int] | None, reason: str | None, tenant: str | None, *, command: str = "") -> QuarantineFilter:
    from spanpost.model.quarantine import QuarantineFilter

    if command and not (ids or reason or tenant):
        raise ConfigError(f"quarantine {command}: give ids, --reason or --tenant")
    return QuarantineFilter(ids=tuple(ids) if ids else None, reason=reason, tenant=tenant)


def _detail(which: QuarantineFilter) -> str:
    given = [
        *map(str, which.ids or ()),
        *(f"{name} {value}" for name in ("reason", "tenant") if (value := getattr(which, name))),
    ]
    return " ".join(given)
