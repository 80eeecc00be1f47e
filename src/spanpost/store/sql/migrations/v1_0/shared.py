"""Columns that several tables have."""

from __future__ import annotations

from typing import Final

from spanpost.store.sql.migrations.ddl import Column

TENANT: Final[Column] = ("tenant", "text NOT NULL", "Tenant; part of every identity.")
TASK: Final[Column] = ("task_uid", "uuid NOT NULL", "Task: agent_tasks.uid.")
TRACE: Final[Column] = ("trace_id", "bytea NOT NULL", "W3C trace id, 16 bytes; the views show it as hex.")
SPAN: Final[Column] = ("span_id", "bytea NOT NULL", "Span id, 8 bytes; the views show it as hex.")
SUBTREE: Final[Column] = (
    "subtree",
    "bytea",
    "Internal: span that owns the row. The row moves to another task with it when a root span arrives late.",
)
RECORDED: Final[Column] = (
    "recorded_at",
    "timestamptz NOT NULL DEFAULT now()",
    "When the row was written, by the database's clock.",
)
