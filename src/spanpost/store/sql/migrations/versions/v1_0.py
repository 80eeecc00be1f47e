"""The first schema."""

from __future__ import annotations

from spanpost.store.sql.migrations.ddl import run
from spanpost.store.sql.migrations.v1_0 import (
    access,
    archives,
    audit,
    costs,
    erasing,
    evaluations,
    functions,
    outbox,
    people,
    processes,
    sealing,
    spending,
    tasks,
    views,
    work,
)

revision = "1.0"
down_revision = None

#: Audit rows; tasks; deliveries; people; launch orders and alerts; usage and budgets; erasures; archives; processes and
#: roles; the log.
TABLES = [
    *(audit.SETS, audit.EVENTS, audit.MONTHS, audit.EVENTS_VIEW, audit.JOURNAL, audit.OFFSETS),
    *(tasks.TASKS, tasks.REDIRECTS, tasks.ARTIFACTS, tasks.CHECKPOINTS, tasks.TREE, tasks.TIMERS, tasks.QUARANTINE),
    *(outbox.DELIVERIES, outbox.ORDERING_KEYS, outbox.BUCKETS),
    evaluations.EVALUATIONS,
    *(people.APPROVALS, people.INTERVENTIONS, people.READS, people.STANDING, people.REQUESTS),
    *(people.SESSION_SECRET, people.ENDED_SESSIONS, people.INSTALLATIONS, access.TOKENS, access.TOTALS),
    *(work.ORDERS, work.ALERTS),
    *(spending.USAGE, spending.SPENDING, spending.BEGUN, spending.LIMITS),
    *(spending.RESERVATIONS, spending.BUDGET_QUESTIONS),
    *(erasing.ERASURES, erasing.ERASED_TRACES),
    *(archives.ARCHIVES, archives.FLOORS, archives.PROGRESS),
    *(processes.PRODUCERS, processes.WATCH, processes.GRANTED, processes.REDACTION_KEY),
    *(sealing.STATE, sealing.LOGS, sealing.ROWS, sealing.ENTRIES, sealing.TILES, sealing.CHECKPOINTS),
    *(sealing.NOTES, sealing.KEYS, sealing.PUBLICATIONS),
]


def upgrade() -> None:
    """Make the schema: tables with their indexes, then the functions and views that read them."""
    for statements in [*TABLES, functions.FUNCTIONS, archives.FUNCTIONS, *views.VIEWS, costs.RESULT_COSTS]:
        for statement in statements:
            run(statement)
