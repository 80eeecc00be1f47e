"""Tables of budgets, costs and the limits of providers in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rich.text import Text

from spanpost.cli.columns import out, time_of
from spanpost.cli.tables import titled
from spanpost.model.budgets import Limits, Spent
from spanpost.model.costs import ResultCost
from spanpost.text.sanitise import line


def print_spending(spent: Sequence[Spent]) -> None:
    """Print the use of budgets."""
    table = titled("budget", "tenant", "of", "spent", "used", "left", "until", "at limit", "raised by")
    for one in spent:
        used = [f"${one.cost_usd:,.2f}"] if one.limit_usd is not None else []
        unpriced = [f"{one.unpriced} calls unpriced"] if one.unpriced and used else []
        used += [f"{one.tokens:,} tokens"] if one.limit_tokens is not None else []
        used += [f"{one.calls:,} calls"] if one.limit_calls is not None else []
        used += [f"{one.tool_calls:,} tool calls"] if one.limit_tool_calls is not None else []
        used += [str(timedelta(seconds=int(one.wall_time.total_seconds())))] if one.limit_time is not None else []
        left = [f"${one.left_usd:,.2f}"] if one.left_usd is not None else []
        left += [f"{one.left_tokens:,} tokens"] if one.left_tokens is not None else []
        left += [f"{one.left_calls:,} calls"] if one.left_calls is not None else []
        cells = (
            one.budget,
            one.tenant,
            ", ".join(line(value, 60) for _, value in one.scope),
            " + ".join(used + unpriced),
            f"{one.share:.0%}",
            " and ".join(left),
            time_of(one.ends_at),
            one.at_limit,
            ", ".join(line(each.by, 60) for each in one.raises),
        )
        table.add_row(*(Text(line(cell, 120)) for cell in cells))
    out().print(table)


def print_costs(by: str, costs: Sequence[ResultCost]) -> None:
    """Print what results cost; a cost of which some calls have no price begins with ``≥``."""
    table = titled({"pr": "pull request"}.get(by, by), "cost", "tasks", "pull requests")
    for one in costs:
        cost = "unknown" if one.cost_usd is None else f"{'≥ ' if one.is_partial else ''}${one.cost_usd:,.2f}"
        cells = (one.key or "(none)", cost, str(one.tasks), str(one.pull_requests))
        table.add_row(*(Text(line(cell, 120)) for cell in cells))
    out().print(table)


def print_limits(limits: Sequence[Limits]) -> None:
    """Print how often providers limited calls."""
    table = titled("day", "tenant", "account", "provider", "model", "limit", "calls")
    for one in limits:
        cells = (
            str(one.day),
            one.tenant,
            one.account,
            one.provider,
            one.model,
            one.kind.replace("_", " "),
            str(one.count),
        )
        table.add_row(*(Text(line(cell, 120)) for cell in cells))
    out().print(table)
