"""``spanpost deliveries``: list, retry and bury; see what holds them back."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from spanpost.cli.options import DatabaseUrl, DataDir, Json, ask, noted, print_json, say_count, settings_of
from spanpost.model.errors import ConfigError

if TYPE_CHECKING:
    from spanpost.store.protocols import DeliveryRow, RateLimitRow, Store

deliveries = typer.Typer(help="List, retry and bury deliveries; see what holds them back.", no_args_is_help=True)

Sink = Annotated[str | None, typer.Option("--sink", metavar="SINK", help="Only deliveries to this sink.")]


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEAD = "dead"


@deliveries.command("list")
def list_deliveries(
    as_json: Json = False,
    state: Annotated[
        DeliveryState | None,
        typer.Option("--state", metavar="STATE", help="Only deliveries that are waiting, sending, delivered or dead."),
    ] = None,
    sink: Sink = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="How many at most.")] = 100,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List deliveries, and what holds them back; the dead ones are those that were given up."""
    import msgspec

    wanted = str(state) if state else None

    async def look(store: Store) -> tuple[list[DeliveryRow], list[RateLimitRow]]:
        return await store.deliveries(state=wanted, sink=sink, limit=limit), await store.rate_limits(is_closed=True)

    rows, closed = ask(settings_of(database_url, data_dir), look)
    if as_json:
        print_json({"deliveries": msgspec.to_builtins(rows), "closed_budgets": msgspec.to_builtins(closed)})
        return
    from spanpost.cli import tables

    if rows:
        tables.print_deliveries(rows)
    else:
        print("no deliveries", file=sys.stderr)
    if closed:
        print()
        tables.print_rate_limits(closed)


@deliveries.command("budgets")
def list_rate_limits(
    as_json: Json = False,
    every: Annotated[bool, typer.Option("--all", help="Those that are open too.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List what is closed to all deliveries that draw on it: until when, and why."""
    import msgspec

    rows = ask(settings_of(database_url, data_dir), lambda store: store.rate_limits(is_closed=not every))
    if as_json:
        print_json({"budgets": msgspec.to_builtins(rows)})
    elif not rows:
        print("no budgets were drawn on" if every else "nothing is closed", file=sys.stderr)
    else:
        from spanpost.cli import tables

        tables.print_rate_limits(rows)


@deliveries.command("reopen")
def reopen_rate_limits(
    keys: Annotated[list[str], typer.Argument(metavar="BUDGET", help="Budgets by name, as `deliveries budgets` lists them.")],
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Open closed budgets at once, when what was wrong has been mended; else they are tried again at their time."""
    detail = " ".join(keys)
    done = noted(settings_of(database_url, data_dir), "reopen_budgets", detail, lambda store: store.reopen_rate_limits(keys))
    say_count("reopened", done, as_json=as_json)


@deliveries.command("retry")
def retry_deliveries(
    ids: Annotated[list[int] | None, typer.Argument(metavar="ID", help="Deliveries by their number.")] = None,
    sink: Annotated[str | None, typer.Option("--sink", metavar="SINK", help="All dead deliveries of this sink.")] = None,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Set dead deliveries waiting again."""
    if not ids and not sink:
        raise ConfigError("deliveries retry: name deliveries by number, or all dead ones of a sink with --sink")
    detail = " ".join(map(str, ids or ())) or f"all of {sink}"
    settings = settings_of(database_url, data_dir)
    done = noted(settings, "retry_deliveries", detail, lambda store: store.retry_deliveries(ids or None, sink=sink))
    say_count("retried", done, as_json=as_json)


@deliveries.command("bury")
def discard_deliveries(
    ids: Annotated[list[int], typer.Argument(metavar="ID", help="Deliveries by their number.")],
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Give deliveries up: they are kept and not tried again."""
    detail = " ".join(map(str, ids))
    done = noted(settings_of(database_url, data_dir), "bury_deliveries", detail, lambda store: store.discard_deliveries(ids))
    say_count("buried", done, as_json=as_json)
