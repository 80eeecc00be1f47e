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
    "One row per budget, tenant, scope and period: usage of finalized model calls. Empty without budgets in "
    "the settings.",
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
        ("limit_usd", "numeric", "Limit when it was last counted; null: none."),
        ("limit_tokens", "bigint", "The same for tokens."),
        ("warned", "double precision NOT NULL DEFAULT 0", "Highest share that was warned of."),
        ("changed_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was last counted."),
    ],
    rules=["PRIMARY KEY (budget, tenant, scope, began_at)"],
    options="WITH (fillfactor = 70)",
    indexes=["CREATE INDEX spending_now ON spending (ends_at)"],
)

BEGUN: Final = table(
    "budgets_begun",
    "Periods of budgets in which earlier usage is counted: a budget that is newly set begins with it.",
    [
        ("budget", "text NOT NULL", "The budget's name in the settings."),
        ("began_at", "timestamptz NOT NULL", "When the period began."),
        ("at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was first counted."),
    ],
    rules=["PRIMARY KEY (budget, began_at)"],
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
