"""``spanpost spending``: spent budgets, and rate limits of providers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from spanpost.cli.options import DatabaseUrl, DataDir, Json, ask, print_json, settings_of

if TYPE_CHECKING:
    from spanpost.model.budgets import Limits, Spent
    from spanpost.store.protocols import Store


def spending(
    as_json: Json = False,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only of this tenant.")] = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List the use of budgets in their current periods, and how often providers limited calls."""
    import msgspec

    async def fetch(store: Store) -> tuple[list[Spent], list[Limits]]:
        return await store.budgets.spending(tenant), await store.budgets.limits(tenant, 100)

    spent, limits = ask(settings_of(database_url, data_dir), fetch)
    spent.sort(key=lambda one: -one.share)
    if as_json:
        from spanpost.tasks.json_form import spent_json

        rows = [{"tenant": one.tenant, **spent_json(one)} for one in spent]
        print_json({"budgets": rows, "provider_limits": msgspec.to_builtins(limits)})
        return
    from spanpost.cli import tables

    if spent:
        tables.print_spending(spent)
    else:
        print(
            "nothing is spent of any budget; budgets are set as budgets.budgets (docs/how-to/budgets.md)",
            file=sys.stderr,
        )
    if limits:
        tables.print_limits(limits)
