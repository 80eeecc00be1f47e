"""``spanpost stats``: runs, failures, durations, tokens and cost of the last days, as `GET /api/stats` adds them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final

import typer

from spanpost.cli.acts import TaskTenant
from spanpost.cli.options import DatabaseUrl, DataDir, Json, ask, print_json, settings_of
from spanpost.cli.remote import Remote, Url
from spanpost.model.errors import ConfigError

#: An agent's clock may be ahead of ours.
_AHEAD: Final = timedelta(minutes=1)


def stats(
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, max=366, help="Number of days, until now.")] = 7,
    tenant: TaskTenant = None,
    as_json: Json = False,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Add up the tasks of the last days by agent and by day: runs, failures, durations (half and 95 % of the ended
    tasks took no longer), tokens and cost. Each task counts its own calls.
    """
    if url is not None:
        if tenant is not None:
            raise ConfigError("--tenant: at a gateway the token determines the tenant; leave it out")
        with Remote(url, data_dir) as remote:
            found = remote.get("/api/stats", {"days": days})
    else:
        from spanpost.tasks.api_json import stats_json

        settings = settings_of(database_url, data_dir)
        whose = tenant if tenant is not None else settings.intake.tenant
        until = datetime.now(UTC) + _AHEAD
        since = until - timedelta(days=days)
        found = stats_json(ask(settings, lambda store: store.reader.stats(whose, since, until)), since, until)
    if as_json:
        print_json(found)
        return
    _print(found)


def _print(found: Mapping[str, Any]) -> None:
    from spanpost.cli.columns import out, print_fitted

    groups = (("agent", "agent_name", found["agents"]), ("day", "day", found["days"]))
    for n, (title, key, sums) in enumerate(groups):
        if n:
            out().print()
        total = [(found["total"], "all")] if n == 0 else []
        rows = [_row(one, word) for one, word in [*((one, one[key] or "–") for one in sums), *total]]
        print_fitted(_columns(title), rows)


def _columns(title: str) -> Sequence[Any]:
    from spanpost.cli.columns import Column

    return (
        Column(title, is_flexible=title == "agent", most=24),
        Column("runs", is_right=True),
        Column("failed", is_right=True),
        Column("p50", is_right=True),
        Column("p95", is_right=True),
        Column("cost", is_right=True),
        Column("in", is_right=True),
        Column("out", is_right=True),
        Column("calls", at=100, is_right=True),
        Column("tools", at=100, is_right=True),
        Column("tool errors", at=100, is_right=True),
    )


def _row(one: Mapping[str, Any], word: str) -> list[Any]:
    from spanpost.text.figures import count, money
    from spanpost.text.locales import ENGLISH

    def tokens(name: str) -> str:
        return "–" if one[name] is None else count(one[name])

    def took(name: str) -> str:
        return "–" if one[name] is None else ENGLISH.duration(float(one[name]))

    cost = "–" if one["cost_usd"] is None else money(Decimal(one["cost_usd"])) + ("+" if one["unpriced_calls"] else "")
    failed = f"{one['failed']} ({one['failed'] / one['tasks']:.0%})" if one["failed"] else "0"
    figures = [cost, tokens("input_tokens"), tokens("output_tokens")]
    counts = [f"{one[name]:,}" for name in ("llm_calls", "tool_calls", "tool_errors")]
    return [word, f"{one['tasks']:,}", failed, took("seconds_p50"), took("seconds_p95"), *figures, *counts]
