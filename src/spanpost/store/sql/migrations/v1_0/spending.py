"""Money and tokens: what was used, what budgets came to, and what providers refused."""

from __future__ import annotations

from typing import Final

from spanpost.store.sql.migrations.ddl import table
from spanpost.store.sql.migrations.v1_0.shared import TASK, TENANT

USAGE: Final = table(
    "model_usage",
    "Usage of finalized model calls, by task, by the model that each call names, and by quarter of an hour. "
    "The sum of a task's rows is "
    "what counters and budgets have counted; a later row is negative where an earlier one was too high.",
    [
        TASK,
        ("model", "text NOT NULL", "The model; empty where the calls name none."),
        (
            "at",
            "timestamptz NOT NULL",
            "Start of the quarter of an hour in which it was counted, by the database's clock.",
        ),
        TENANT,
        ("calls", "bigint NOT NULL", "Model calls, each once."),
        ("unpriced", "bigint NOT NULL", "Those of them without a known cost: the true cost is higher."),
        ("input_tokens", "bigint NOT NULL", "Input tokens, cache included."),
        ("output_tokens", "bigint NOT NULL", "Output tokens, reasoning included."),
        ("cache_read_tokens", "bigint NOT NULL", "Part of the input that was read from the cache."),
        ("cache_write_tokens", "bigint NOT NULL", "Part of the input that was written to the cache."),
        ("reasoning_tokens", "bigint NOT NULL", "Part of the output that was reasoning."),
        ("cost_usd", "numeric NOT NULL", "Cost in US dollars."),
    ],
    rules=["PRIMARY KEY (task_uid, model, at)"],
    options="WITH (fillfactor = 80)",
    indexes=["CREATE INDEX model_usage_at ON model_usage (at)"],
)

SPENDING: Final = table(
    "spending",
    "One row per budget, tenant, scope and period (of a rolling budget, per step of its window): what tasks are seen "
    "to have used, corrected later. Empty without budgets in the settings.",
    [
        ("budget", "text NOT NULL", "The budget's name in the settings."),
        TENANT,
        ("scope", "jsonb NOT NULL", "Values by attribute, as the budget's `per` names them; {} for all."),
        (
            "began_at",
            "timestamptz NOT NULL",
            "When the period began, by the database's clock and the time zone of the settings.",
        ),
        ("ends_at", "timestamptz NOT NULL", "When it ends."),
        ("cost_usd", "numeric NOT NULL DEFAULT 0", "US dollars spent."),
        ("tokens", "bigint NOT NULL DEFAULT 0", "Input and output tokens used."),
        ("calls", "bigint NOT NULL DEFAULT 0", "Model calls."),
        ("unpriced", "bigint NOT NULL DEFAULT 0", "Those of them without a known cost: the true cost is higher."),
        ("tool_calls", "bigint NOT NULL DEFAULT 0", "Tool calls."),
        ("wall_time", "interval NOT NULL DEFAULT '0'", "Wall time of the tasks, where a budget limits it."),
        ("limit_usd", "numeric", "Limit when it was last counted, with its raises; null: none."),
        ("limit_tokens", "bigint", "The same for tokens."),
        ("limit_calls", "bigint", "The same for model calls."),
        ("limit_tool_calls", "bigint", "The same for tool calls."),
        ("limit_time", "interval", "The same for wall time."),
        (
            "raises",
            "jsonb NOT NULL DEFAULT '[]'",
            "Raises by people: by, by_id, at, until, and share (of the limit in the settings).",
        ),
        ("at_limit", "text NOT NULL DEFAULT 'warn'", "What happens at the limit: warn, ask, pause or cancel."),
        ("warned", "double precision NOT NULL DEFAULT 0", "Highest share that was warned of."),
        ("changed_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was last counted."),
    ],
    rules=["PRIMARY KEY (budget, tenant, scope, began_at)"],
    options="WITH (fillfactor = 70)",
    indexes=["CREATE INDEX spending_now ON spending (ends_at)"],
)

BEGUN: Final = table(
    "budgets_begun",
    "Budgets that have begun: one that is newly set begins with the earlier usage of its period.",
    [
        ("budget", "text PRIMARY KEY", "The budget's name in the settings."),
        ("began_at", "timestamptz NOT NULL", "When the first period began."),
        ("at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was first counted."),
    ],
)

RESERVATIONS: Final = table(
    "budget_reservations",
    "One row per reservation of an agent and budget: what is left of it. Deleted when its calls were seen, or once "
    "it has expired.",
    [
        ("id", "uuid NOT NULL", "Made by the agent: the same when its request is repeated."),
        ("budget", "text NOT NULL", "The budget's name in the settings."),
        TENANT,
        ("ref", "text NOT NULL", "The task, by one of its ids or by its trace."),
        ("scope", "jsonb NOT NULL", "As in `spending`."),
        ("calls", "bigint NOT NULL", "Model calls that are reserved and were not seen yet."),
        ("tokens", "bigint NOT NULL", "The same in tokens."),
        ("usd", "numeric NOT NULL", "The same in US dollars."),
        ("made_at", "timestamptz NOT NULL", "When it was made, by the database's clock."),
        ("expires_at", "timestamptz NOT NULL", "Until when it holds."),
    ],
    rules=["PRIMARY KEY (tenant, id, budget)"],
    indexes=[
        "CREATE INDEX budget_reservations_ref ON budget_reservations (tenant, ref)",
        "CREATE INDEX budget_reservations_scope ON budget_reservations (budget, tenant)",
    ],
)

BUDGET_QUESTIONS: Final = table(
    "budget_questions",
    "One row per question that a budget asked when it was used up.",
    [
        ("key", "uuid PRIMARY KEY", "The question: approvals.key."),
        ("budget", "text NOT NULL", "The budget's name in the settings."),
        TENANT,
        ("scope", "jsonb NOT NULL", "As in `spending`."),
        ("period", "timestamptz NOT NULL", "Start of the period that it was asked in."),
        ("raises", "integer NOT NULL", "How often the limit had been raised: an answer raises it once."),
        ("task_uid", "uuid NOT NULL", "The task that was paused, as it was known then."),
        ("asked_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was asked, by the database's clock."),
    ],
)

LIMITS: Final = table(
    "provider_limits",
    "How often model providers refused calls, by account and day: rate limits, and quotas that are used up.",
    [
        TENANT,
        (
            "account",
            "text NOT NULL",
            "Account at the provider, as the agent says (agent.account); empty when it does not.",
        ),
        ("provider", "text NOT NULL", "Provider of the model; empty when unknown."),
        ("model", "text NOT NULL", "Model that was asked for."),
        ("kind", "text NOT NULL", "rate_limit, or quota."),
        ("day", "date NOT NULL", "The day (UTC), by the database's clock."),
        ("count", "bigint NOT NULL", "Calls, each once."),
        ("last_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When the last was recorded."),
    ],
    rules=["PRIMARY KEY (tenant, account, provider, model, kind, day)"],
)
