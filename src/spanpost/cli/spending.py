"""``spanpost spending``: spent budgets, rate limits of providers, and what results cost."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from spanpost.cli.options import DatabaseUrl, DataDir, Json, ask, print_json, settings_of
from spanpost.model.costs import CostsBy
from spanpost.model.errors import ConfigError

if TYPE_CHECKING:
    from spanpost.model.budgets import Limits, Spent
    from spanpost.settings import Settings
    from spanpost.store.protocols import Store


def spending(
    as_json: Json = False,
    by: Annotated[
        CostsBy | None,
        typer.Option("--by", metavar="pr|person|repo", help="List what each pull request, person or repository cost."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="With --by: only tasks that began since this time (RFC 3339), or within an age (7d).",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="With --by: maximum number.")
    ] = 50,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only this tenant.")] = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List the use of budgets in their current periods, and how often providers limited calls; or costs, with --by."""
    import msgspec

    if by is not None:
        _costs(by, since, limit, tenant, settings_of(database_url, data_dir), as_json=as_json)
        return
    if since is not None:
        raise ConfigError("--since: it belongs to --by; add --by pr, or leave it out")

    async def fetch(store: Store) -> tuple[list[Spent], list[Limits]]:
        return await store.budgets.spending(tenant), await store.budgets.limits(tenant, 100)

    spent, limits = ask(settings_of(database_url, data_dir), fetch)
    spent.sort(key=lambda one: -one.share)
    if as_json:
        from spanpost.tasks.json_form import spent_json

        rows = [{"tenant": one.tenant, **spent_json(one)} for one in spent]
        print_json({"budgets": rows, "provider_limits": msgspec.to_builtins(limits)})
        return
    from spanpost.cli import spending_tables

    if spent:
        spending_tables.print_spending(spent)
    else:
        print(
            "nothing is spent of any budget; budgets are set as budgets.budgets (docs/how-to/budgets.md)",
            file=sys.stderr,
        )
    if limits:
        spending_tables.print_limits(limits)


def _costs(
    by: CostsBy, since: str | None, limit: int, tenant: str | None, settings: Settings, *, as_json: bool
) -> None:
    from spanpost.cli.listing import time_of

    began = time_of(since)
    found = ask(settings, lambda store: store.budgets.costs(tenant, by, began, limit))
    if as_json:
        from spanpost.tasks.json_form import cost_json

        print_json({"by": by, "costs": [cost_json(one) for one in found]})
        return
    if not found:
        print("no pull requests yet" if by == "pr" else "no tasks yet", file=sys.stderr)
        return
    from spanpost.cli import spending_tables

    spending_tables.print_costs(by, found)
