"""The first schema."""

from __future__ import annotations

from alembic import op

from spanpost.store.sql.migrations.v1_0 import audit, functions, outbox, people, processes, spending, tasks, views, work

revision = "1.0"
down_revision = None

#: Audit rows; tasks; deliveries; people; launch orders and alerts; usage and budgets; processes and roles.
TABLES = [
    *(audit.SETS, audit.EVENTS, audit.MONTHS, audit.EVENTS_VIEW, audit.JOURNAL, audit.OFFSETS),
    *(tasks.TASKS, tasks.REDIRECTS, tasks.ARTIFACTS, tasks.CHECKPOINTS, tasks.TREE, tasks.TIMERS, tasks.QUARANTINE),
    *(outbox.DELIVERIES, outbox.ORDERING_KEYS, outbox.BUCKETS),
    *(people.APPROVALS, people.INTERVENTIONS, people.REQUESTS),
    *(people.SESSION_SECRET, people.ENDED_SESSIONS, people.INSTALLATIONS),
    *(work.ORDERS, work.ALERTS),
    *(spending.USAGE, spending.SPENDING, spending.BEGUN, spending.LIMITS),
    *(processes.PRODUCERS, processes.WATCH, processes.GRANTED, processes.REDACTION_KEY),
]


def upgrade() -> None:
    """Make the schema: tables with their indexes, then the functions and views that read them."""
    connection = op.get_bind()
    for statements in [*TABLES, functions.FUNCTIONS, *views.VIEWS]:
        for statement in statements:
            connection.exec_driver_sql(statement)
