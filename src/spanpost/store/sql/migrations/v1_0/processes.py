"""Processes: heartbeats and stall timeouts, and the roles and keys of the database."""

from __future__ import annotations

from typing import Final

from spanpost.store.sql.migrations.ddl import table
from spanpost.store.sql.migrations.v1_0.shared import TENANT

PRODUCERS: Final = table(
    "processes",
    "Internal: processes that send heartbeats, one row each.",
    [
        ("key", "bytea PRIMARY KEY", "Hash of tenant and producer, and the letter p."),
        TENANT,
        ("producer", "text NOT NULL", "Its id, made by itself."),
        ("seq", "bigint NOT NULL", "Number of its newest heartbeat."),
        ("at_ns", "bigint NOT NULL", "Time of its newest heartbeat by its own clock, Unix nanoseconds."),
        ("last_seen_at", "timestamptz NOT NULL", "The same by the database's clock."),
        (
            "lag",
            "interval NOT NULL",
            "Smallest difference seen between its clock and the database's: clock offset and transport time.",
        ),
        ("heartbeat_interval", "interval NOT NULL", "Interval of its heartbeats."),
        (
            "roots",
            "bytea[] NOT NULL",
            "Its open spans without a parent in the process: trace id and span id, 24 bytes.",
        ),
        ("traces", "bytea[] NOT NULL", "Their traces."),
        (
            "gone_at",
            "timestamptz",
            "When it was declared gone, by the database's clock; null while it sends heartbeats.",
        ),
    ],
    options="WITH (fillfactor = 70)",
    indexes=["CREATE INDEX processes_traces ON processes USING gin (traces) WHERE gone_at IS NULL"],
)

WATCH: Final = [
    *table(
        "heartbeats",
        "Internal: one row. Since when a receiver runs, the stall timeouts, and the process that publishes "
        "the gauges of all processes.",
        [
            ("id", "boolean PRIMARY KEY DEFAULT true CHECK (id)", "True: there is one row."),
            ("seen_at", "timestamptz NOT NULL DEFAULT now()", "When a receiver last ran."),
            (
                "resumed_at",
                "timestamptz NOT NULL DEFAULT now()",
                "Since when a receiver runs without an outage: stall timeouts count from then on.",
            ),
            ("stall", "interval NOT NULL DEFAULT '5 min'", "Time without telemetry after which a task is stalled."),
            ("call", "interval NOT NULL DEFAULT '1 h'", "The same while a tool or model call is open."),
            ("outage", "interval NOT NULL DEFAULT '30 s'", "A longer time without any receiver is an outage."),
            ("reported_by", "uuid", "Process that publishes the gauges of all processes; null without one."),
            (
                "reported_until",
                "timestamptz",
                "Until when it publishes them, by the database's clock; it renews this before.",
            ),
        ],
        options="WITH (fillfactor = 50)",
    ),
    "INSERT INTO heartbeats DEFAULT VALUES",
]

GRANTED: Final = table(
    "granted_roles",
    "One row per database role that `spanpost db grant` gave rights: an upgrade grants it those on new tables, too.",
    [
        ("role", "text PRIMARY KEY", "The role's name."),
        ("kind", "text NOT NULL CHECK (kind IN ('writer', 'reader'))", "writer: records. reader: reads."),
        (
            "tenants",
            "text[]",
            "Tenants whose rows a reader may see, and no others (row policies). Null: all.",
        ),
        (
            "granted_at",
            "timestamptz NOT NULL DEFAULT clock_timestamp()",
            "When it was last granted, by the database's clock.",
        ),
    ],
)

REDACTION_KEY: Final = table(
    "redaction_key",
    "The key of the hashes in [redacted:kind:length:hash]. A role that reads it can try short secrets: grant it to no "
    "reading role. Not used where redaction.hash_key is set.",
    [
        ("one", "boolean PRIMARY KEY DEFAULT true CHECK (one)", "True: there is one row."),
        ("key", "bytea NOT NULL", "32 random bytes, written by the first process that opens the database."),
    ],
)
