"""``spanpost deliveries``: list, retry and discard deliveries; list and reopen rate limits."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from spanpost.cli.options import DatabaseUrl, DataDir, Json, ask, noted, print_json, say_count, settings_of
from spanpost.model.errors import ConfigError

if TYPE_CHECKING:
    from spanpost.model.deliveries import DeliveryRow, RateLimitRow
    from spanpost.store.protocols import Store

deliveries = typer.Typer(help="List, retry and discard deliveries; list and reopen rate limits.", no_args_is_help=True)

Sink = Annotated[str | None, typer.Option("--sink", metavar="SINK", help="Only deliveries to this sink.")]


class StateFilter(StrEnum):
    """Choices of `--state`. As `DeliveryState`, without its imports: the command line starts quickly."""

    WAITING = "waiting"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEAD = "dead"


@deliveries.command("list")
def list_deliveries(
    as_json: Json = False,
    state: Annotated[
        StateFilter | None,
        typer.Option(
            "--state", metavar="STATE", help="Only deliveries in this state: waiting, sending, delivered or dead."
        ),
    ] = None,
    sink: Sink = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="Maximum number of deliveries.")
    ] = 100,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List deliveries and the closed rate limits that hold them back. Dead deliveries are those that were
    given up.
    """
    import msgspec

    wanted = str(state) if state else None

    async def fetch(store: Store) -> tuple[list[DeliveryRow], list[RateLimitRow]]:
        return await store.outbox.deliveries(state=wanted, sink=sink, limit=limit), await store.outbox.rate_limits(
            is_closed=True
        )

    rows, closed = ask(settings_of(database_url, data_dir), fetch)
    if as_json:
        print_json({"deliveries": msgspec.to_builtins(rows), "closed_limits": msgspec.to_builtins(closed)})
        return
    from spanpost.cli import tables

    if rows:
        tables.print_deliveries(rows, datetime.now(UTC))
    else:
        print("no deliveries", file=sys.stderr)
    if closed:
        print()
        tables.print_rate_limits(closed)


@deliveries.command("limits")
def list_rate_limits(
    as_json: Json = False,
    show_all: Annotated[bool, typer.Option("--all", help="List open rate limits as well.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List closed rate limits: until when each is closed, and why. Deliveries that need one of them wait."""
    import msgspec

    rows = ask(settings_of(database_url, data_dir), lambda store: store.outbox.rate_limits(is_closed=not show_all))
    if as_json:
        print_json({"limits": msgspec.to_builtins(rows)})
    elif not rows:
        print("no rate limit was used" if show_all else "nothing is closed", file=sys.stderr)
    else:
        from spanpost.cli import tables

        tables.print_rate_limits(rows)


@deliveries.command("reopen")
def reopen_rate_limits(
    keys: Annotated[
        list[str], typer.Argument(metavar="LIMIT", help="Names of rate limits, as `deliveries limits` lists them.")
    ],
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Reopen closed rate limits at once, after the cause was fixed. Otherwise each is tried again at its
    own time.
    """
    detail = " ".join(keys)
    done = noted(
        settings_of(database_url, data_dir), "reopen_rate_limits", detail, lambda store: store.outbox.reopen(keys)
    )
    say_count("reopened", done, as_json=as_json)


@deliveries.command("retry")
def retry_deliveries(
    ids: Annotated[list[int] | None, typer.Argument(metavar="ID", help="Ids of deliveries.")] = None,
    sink: Annotated[
        str | None, typer.Option("--sink", metavar="SINK", help="All dead deliveries of this sink.")
    ] = None,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Queue dead deliveries again."""
    if not ids and not sink:
        raise ConfigError("deliveries retry: give delivery ids, or --sink for all dead deliveries of a sink")
    detail = " ".join(map(str, ids or ())) or f"all of {sink}"
    settings = settings_of(database_url, data_dir)
    done = noted(settings, "retry_deliveries", detail, lambda store: store.outbox.retry(ids or None, sink=sink))
    say_count("retried", done, as_json=as_json)


@deliveries.command("discard")
def discard_deliveries(
    ids: Annotated[list[int], typer.Argument(metavar="ID", help="Ids of deliveries.")],
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Discard deliveries: they are kept as dead and not tried again."""
    detail = " ".join(map(str, ids))
    done = noted(
        settings_of(database_url, data_dir), "discard_deliveries", detail, lambda store: store.outbox.discard(ids)
    )
    say_count("discarded", done, as_json=as_json)
