"""Access: the tokens that the database keeps, and the totals of tenants by which their limits are judged."""

from __future__ import annotations

from typing import Final

from spanpost.store.sql.migrations.ddl import table

TOKENS: Final = table(
    "access_tokens",
    "One row per token of `spanpost token new --name`, known only by its hash. Rotated tokens share a name; "
    "revoked and expired ones stay.",
    [
        ("id", "uuid PRIMARY KEY", "The token's id, which logs and interventions may show."),
        ("name", "text NOT NULL", "Its name: the author of actions with it."),
        ("tenant", "text", "Tenant that it gives access to; null: none (the scopes metrics and route)."),
        ("scopes", "text[] NOT NULL", "What it may do: send, control, alerts, metrics, route, roles, act:..."),
        ("digest", "bytea NOT NULL UNIQUE CHECK (length(digest) = 32)", "SHA-256 of the token."),
        ("made_by", "text NOT NULL", "The system's user who made it, with its host."),
        ("made_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When, by the database's clock."),
        ("expires_at", "timestamptz", "When it expires; null: never."),
        ("revoked_at", "timestamptz", "When it was revoked; null: it was not."),
        ("used_at", "timestamptz", "When it was used last, to about a minute; null: never."),
        ("revision", "bigint NOT NULL DEFAULT 1", "Counts up with each change but its use: gateways notice by it."),
    ],
    indexes=["CREATE INDEX access_tokens_name ON access_tokens (name)"],
)

TOTALS: Final = table(
    "tenant_totals",
    "One row per tenant: what it had stored when a gateway last measured it (limits.measure_interval), in all tables "
    "with a column tenant. Large tables are measured by a sample of their pages.",
    [
        ("tenant", "text PRIMARY KEY", "Tenant."),
        ("rows", "bigint NOT NULL", "Rows of the tenant."),
        ("bytes", "bigint NOT NULL", "Stored size of these rows, with their part of the indexes."),
        ("measured_at", "timestamptz NOT NULL", "When, by the database's clock."),
    ],
)
