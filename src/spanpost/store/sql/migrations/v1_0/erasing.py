"""Erasures, and the tombstones of erased traces."""

from __future__ import annotations

from typing import Final

from spanpost.store.sql.migrations.ddl import table

ERASURES: Final = table(
    "erasures",
    "One row per erasure of a task, a person, a tenant or a time range (`spanpost erase`): who, why, when and how "
    "far. It names no person and no task.",
    [
        ("id", "uuid PRIMARY KEY", "Identity; its first eight digits are in the marker that replaces a person."),
        ("tenant", "text NOT NULL", "The tenant that was given; empty: all."),
        ("started_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it began, by the database's clock."),
        ("actor", "text NOT NULL", "The operating system's user and host of the command."),
        ("reason", "text NOT NULL", "The reason that was given."),
        ("act", "uuid NOT NULL", "human_interventions.id of the operation; notes of the sealed log name it."),
        ("salt", "bytea NOT NULL", "Random bytes of the hash in selected."),
        (
            "selected",
            "bytea NOT NULL",
            "Hash of salt and selection (SHA-256): it tells whether the same is asked for again.",
        ),
        ("kinds", "jsonb NOT NULL", "What was selected by: task, person, tenant, range, also."),
        ("since", "timestamptz", "Start of the time range; null: none was given."),
        ("until", "timestamptz", "End of the time range; null: none was given."),
        (
            "state",
            "text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'waiting', 'done'))",
            "running, waiting (messages are being deleted) or done.",
        ),
        (
            "working",
            "jsonb",
            "While it runs: the spellings that it looks for, so that it can be resumed. Null once it is done.",
        ),
        ("progress", "jsonb NOT NULL DEFAULT '{}'", "Rows that were erased or changed, by place."),
        ("finished_at", "timestamptz", "When it was done, by the database's clock."),
    ],
)

ERASED_TRACES: Final = table(
    "erased_traces",
    "Tombstones: spans of these traces are refused when a sender sends them again. The newest million are kept.",
    [
        ("key", "bytea PRIMARY KEY", "Keyed hash of tenant and trace id. The empty key: see erased_at."),
        (
            "erased_at",
            "timestamptz NOT NULL DEFAULT clock_timestamp()",
            "When it was erased. Of the empty key: recorders forget the attribute sets that they learned before.",
        ),
    ],
    indexes=["CREATE INDEX erased_traces_at ON erased_traces (erased_at)"],
)
