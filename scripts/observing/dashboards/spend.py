"""*Spend and context*: tokens, cost, budgets, windows."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard as d

from observing.dashboards.common import BOARD, BOARD_VARIABLE, BUDGET, CONTEXT, HIDDEN, ON_BOARD, RANGE, TASK, USED
from observing.frame import NOTES, dashboard, in_rows
from observing.panels import AGENTS, GREEN, JOB, RED, TENANTS, WHO, YELLOW, bars, found, lines, linked, number, rows

_RATE = "$__rate_interval"
_COST = f"spanpost_cost_usd_total{{{WHO}}}"
_TOKENS = f"spanpost_tokens_total{{{WHO}}}"
_SUMS = f"FROM agent_tasks t WHERE $__timeFilter(coalesce(t.ended_at, t.last_event_at)) AND {AGENTS}"


def spend() -> d.Dashboard:
    """Tokens, cost, windows."""
    made = dashboard(
        "spend",
        "spanpost / Spend and context",
        "Tokens and cost by agent, model, tenant, person and pull request; budgets; context windows.",
        hours=24,
        notes=(
            *NOTES[:1],
            ("Context warnings", "t.kind IN ('context_warning', 'compaction')", "orange", False),
            *NOTES[2:3],
        ),
    )
    return in_rows(
        made.with_variable(BOARD_VARIABLE),
        {"Now": _now(), "Trends": _trends(), "Why": _why(), "Tables": _tables()},
    )


def _now() -> list[Any]:
    return [
        found(
            "Cost in this range",
            "By the time of finalization, from the audit rows: exact. Calls without a known price are not included.",
            f"SELECT coalesce(sum(u.cost_usd), 0)::float8 AS value {USED}",
            "currencyUSD",
        ),
        number("Cost of a day at this rate", "From the last hour.", f"sum(increase({_COST}[1h])) * 24", "currencyUSD"),
        number(
            "Fullest budget",
            "The budget with the largest spent share in its current period (`budgets`); empty without budgets.",
            f"max(spanpost_budget_used_ratio{{{JOB},tenant=~'$tenant'}}) or vector(0)",
            "percentunit",
            (None, GREEN),
            (0.8, YELLOW),
            (1, RED),
        ),
        found(
            "Tokens in this range",
            "Input, caches included, and output, by the time of finalization; from the audit rows: exact.",
            f"SELECT coalesce(sum(u.input_tokens + u.output_tokens), 0)::float8 AS value {USED}",
        ),
        found(
            "Input from caches",
            "Share of the input from caches.",
            f"SELECT coalesce(sum(u.cache_read_tokens)::float8 / nullif(sum(u.input_tokens), 0), 0) AS value {USED}",
            "percentunit",
        ),
        found(
            "Calls without a price",
            "Model calls without a known cost.",
            f"SELECT greatest(coalesce(sum(u.unpriced), 0), 0)::float8 AS value {USED}",
            steps=((None, GREEN), (1, YELLOW)),
        ),
        rows(
            "Budgets",
            "Spending in the current period by budget and scope; those nearest to their limit first.",
            'SELECT budget AS "Budget", tenant AS "Tenant", (SELECT string_agg(w.value, \', \') FROM '
            'jsonb_each_text(scope) w) AS "Of", ends_at AS "Until",'
            ' share AS "Used", cost_usd::float8 AS "Spent", limit_usd::float8 AS "Limit", tokens::float8 AS "Tokens",'
            ' limit_tokens::float8 AS "Of tokens", unpriced::float8 AS "Without a price",'
            ' calls::float8 AS "Calls", limit_calls::float8 AS "Of calls", at_limit AS "At the limit",'
            ' jsonb_array_length(raises) AS "Raises" FROM ('
            " SELECT *, greatest(coalesce(cost_usd / nullif(limit_usd, 0), 0),"
            " coalesce(tokens::numeric / nullif(limit_tokens, 0), 0),"
            " coalesce(calls::numeric / nullif(limit_calls, 0), 0),"
            " coalesce(tool_calls::numeric / nullif(limit_tool_calls, 0), 0),"
            " coalesce(extract(epoch FROM wall_time) / nullif(extract(epoch FROM limit_time), 0), 0)"
            ")::float8 AS share FROM spending t WHERE "
            f"ends_at > now() AND {TENANTS}"
            ") s ORDER BY share DESC LIMIT 100",
            width=24,
            units={
                "Used": "percentunit",
                "Spent": "currencyUSD",
                "Limit": "currencyUSD",
                "Tokens": "short",
                "Of tokens": "short",
                "Calls": "short",
                "Of calls": "short",
            },
            widths={
                "Used": 90,
                "Spent": 90,
                "Limit": 90,
                "Tokens": 85,
                "Of tokens": 85,
                "Without a price": 110,
                "Calls": 70,
                "Of calls": 70,
                "At the limit": 90,
                "Raises": 65,
                "Until": 165,
            },
            steps={"Used": BUDGET},
        ),
    ]


def _trends() -> list[Any]:
    return [
        lines(
            "Cost per hour, by agent",
            "By the time of finalization; calls without a known price are not included.",
            (f"sum by (agent) (rate({_COST}[{_RATE}])) * 3600", "{{agent}}"),
            unit="currencyUSD",
            stacked=True,
        ),
        lines(
            "Cost per hour, by model",
            "By the model that each call names.",
            (f"sum by (model) (rate({_COST}[{_RATE}])) * 3600", "{{model}}"),
            unit="currencyUSD",
            stacked=True,
        ),
        lines(
            "Tokens per minute, by kind",
            "Input includes caches.",
            (f"sum by (kind) (rate({_TOKENS}[{_RATE}])) * 60", "{{kind}}"),
            width=8,
        ),
        lines(
            "Context windows",
            "The fullest window of each agent's running tasks, with the warning thresholds.",
            (f"max by (agent) (spanpost_context_used_ratio{{{WHO}}})", "{{agent}}"),
            unit="percentunit",
            steps=CONTEXT,
            width=8,
        ),
        lines(
            "Time to the next context warning",
            "Forecast time until the next window reaches a warning threshold.",
            (f"min by (agent) (spanpost_context_forecast_seconds{{{WHO}}})", "{{agent}}"),
            unit="s",
            width=8,
        ),
    ]


def _why() -> list[Any]:
    return [
        linked(
            linked(
                rows(
                    "Most expensive tasks",
                    "Including all tasks below them.",
                    'SELECT t.title AS "Task", t.agent_name AS "Agent",'
                    ' s.cost_usd::float8 AS "Cost", (s.input_tokens + '
                    's.output_tokens)::float8 AS "Tokens", '
                    f"{ON_BOARD}, " + RANGE + f" FROM agent_tasks t JOIN agent_task_totals s ON s.uid = t.uid WHERE "
                    f"$__timeFilter(t.started_at) AND t.parent_uid IS NULL AND s.cost_usd IS NOT NULL AND "
                    f"{AGENTS} ORDER BY 3 DESC LIMIT 20",
                    width=24,
                    units={"Cost": "currencyUSD", "Tokens": "short", "Task": "string", "id": "string"},
                    widths={"Agent": 130, "Cost": 110, "Tokens": 110, "Board": 70},
                    hidden=HIDDEN,
                ),
                "Task",
                TASK,
            ),
            "Board",
            BOARD,
            is_outside=True,
        ),
        bars(
            "Rate limits and quotas, by model",
            "Calls that met a rate limit or a spent quota in this range.",
            (
                f"round(sum by (limit, model) (increase(spanpost_provider_limits_total{{{WHO}}}[$__range]))) > 0",
                "{{limit}} {{model}}",
            ),
            width=8,
        ),
        rows(
            "Rate limits and quotas, by account",
            "Calls that met a rate limit or quota, by the account that the agent names.",
            "SELECT day AS \"Day\", coalesce(nullif(account, ''), 'unknown') AS \"Account\", provider AS "
            '"Provider", model AS "Model",'
            ' kind AS "Limit", count::float8 AS "Calls" FROM provider_limits t WHERE $__timeFilter(last_at) '
            f"AND {TENANTS} ORDER "
            "BY day DESC, count DESC LIMIT 100",
            width=16,
            height=7,
            widths={"Day": 100, "Limit": 90, "Calls": 70},
        ),
    ]


def _tables() -> list[Any]:
    return [
        rows(
            "By agent",
            "From the audit rows: exact.",
            f'SELECT coalesce(agent_name, \'unknown\') AS "Agent", count(*)::int AS "Tasks", '
            f'sum(llm_calls)::float8 AS "Calls", sum(input_tokens)::float8 AS "Tokens in", '
            f'sum(output_tokens)::float8 AS "Tokens out", sum(cost_usd)::float8 AS "Cost" {_SUMS} GROUP BY 1 '
            f"ORDER BY 6 DESC NULLS LAST",
            width=12,
            units={"Cost": "currencyUSD", "Tokens in": "short", "Tokens out": "short"},
            widths={"Tasks": 60, "Calls": 65, "Tokens in": 80, "Tokens out": 85, "Cost": 75},
        ),
        rows(
            "By model",
            "From the audit rows: exact; by the model that each call names and the time of finalization.",
            "SELECT coalesce(nullif(u.model, ''), 'unknown') AS \"Model\", sum(u.calls)::float8 AS \"Calls\", "
            'sum(u.input_tokens)::float8 AS "Tokens in",'
            ' sum(u.output_tokens)::float8 AS "Tokens out", sum(u.cost_usd)::float8 AS "Cost"'
            f" {USED} GROUP BY 1 ORDER BY 5 DESC",
            width=12,
            units={"Cost": "currencyUSD", "Tokens in": "short", "Tokens out": "short"},
            widths={"Calls": 65, "Tokens in": 80, "Tokens out": 85, "Cost": 75},
        ),
        rows(
            "By tenant",
            "From the audit rows: exact.",
            f'SELECT t.tenant AS "Tenant", count(*)::int AS "Tasks", sum(t.input_tokens)::float8 AS "Tokens '
            f'in", sum(t.output_tokens)::float8 AS "Tokens out", sum(t.cost_usd)::float8 AS "Cost" {_SUMS} GROUP '
            f"BY 1 ORDER BY 5 DESC NULLS LAST",
            width=12,
            units={"Cost": "currencyUSD", "Tokens in": "short", "Tokens out": "short"},
            widths={"Tasks": 65, "Tokens in": 80, "Tokens out": 85, "Cost": 75},
        ),
        rows(
            "By task type",
            "From the audit rows: exact.",
            f'SELECT coalesce(type, \'unknown\') AS "Type", count(*)::int AS "Tasks", sum(cost_usd)::float8 AS '
            f"\"Cost\", (sum(cost_usd) / nullif(count(*) FILTER (WHERE status = 'complete'), 0))::float8 AS "
            f'"Per success" {_SUMS} GROUP BY 1 ORDER BY 3 DESC NULLS LAST',
            width=12,
            units={"Cost": "currencyUSD", "Per success": "currencyUSD"},
            widths={"Tasks": 90, "Cost": 110, "Per success": 180},
        ),
        *(
            rows(
                title,
                "Cost of root tasks with all tasks below them, split evenly among their pull requests; the view "
                "agent_result_costs. From the audit: exact.",
                f'SELECT coalesce({column}, \'unknown\') AS "{name}", sum(t.cost_usd)::float8 AS "Cost", '
                'count(DISTINCT t.uid)::int AS "Tasks", count(DISTINCT t.pull_request)::int AS "Pull requests" '
                f"FROM agent_result_costs t WHERE $__timeFilter(t.started_at) AND {AGENTS} {only}"
                "GROUP BY 1 ORDER BY 2 DESC NULLS LAST LIMIT 100",
                width=12,
                units={"Cost": "currencyUSD"},
                widths={"Cost": 90, "Tasks": 65, "Pull requests": 115},
            )
            for title, name, column, only in (
                ("By pull request", "Pull request", "t.pull_request", "AND t.pull_request IS NOT NULL "),
                ("By requester", "Person", "t.requested_by", ""),
            )
        ),
    ]
