"""Figures of all tasks and deliveries in one database, which one process computes for the gauges."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from spanpost.model.budgets import Spent
from spanpost.model.journal import Backlog

#: Reasons of closed rate limits, the worst first.
CLOSED = ("refused", "failing", "throttled")
#: Budgets that gauges show at most: those that changed last.
SHOWN = 1000
#: Retries of one task that are counted.
MOST_RETRIES = 20


class OpenTasks(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tasks that have not ended, by current status, agent, type, environment and tenant."""

    status: str
    agent_name: str | None
    task_type: str | None
    environment: str | None
    tenant: str
    count: int
    #: Longest time since the last event of one of them, seconds.
    stall: float
    #: Largest used share of a context window, 0 to 1; shortest time until one reaches its warning limit,
    #: seconds.
    context_share: float | None = None
    context_ahead: float | None = None
    #: Those whose agent repeats itself, unless a person let it be.
    looping: int = 0


class RetriedChain(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Most retries of a task that failed in the last hour and was not tried again since."""

    agent_name: str | None
    environment: str | None
    tenant: str
    retries: int


class OpenApprovals(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Open questions of tasks that have not ended, by agent, environment and tenant."""

    agent_name: str | None
    environment: str | None
    tenant: str
    count: int
    #: Seconds since the oldest was recorded.
    oldest: float


class Health(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Health of a tenant's agent: 100 minus deductions. The view `agent_health` is the same in SQL."""

    tenant: str
    agent_name: str
    #: 0 to 100.
    score: int
    #: Deductions: failed tasks, stalled and interrupted tasks, questions that wait long, a budget nearly
    #: spent.
    errors: int
    stalls: int
    waiting: int
    budget: int


class SinkQueue(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Deliveries to one sink: waiting or being sent, the age of the oldest (seconds), and dead letters."""

    sink: str
    waiting: int
    oldest: float
    dead: int


class Sealing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How far the sealed log is behind, in seconds."""

    #: Since the time before which all rows are sealed.
    lag: float
    #: Since a checkpoint last left the premises, by way; since sealing began where none has.
    ways: dict[str, float]


class Archived(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Archived rows of one table, and the size of their files."""

    table: str
    rows: int
    size: int


class RetentionLag(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How far retention is behind, in seconds."""

    #: Since the last run that was completed, or since the first that failed.
    run_age: float
    #: Since the oldest rows beyond their retention should have been archived.
    overdue: float


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one database."""

    tasks: list[OpenTasks] = []
    approvals: list[OpenApprovals] = []
    retried: list[RetriedChain] = []
    deliveries: list[SinkQueue] = []
    health: list[Health] = []
    #: Budgets in their current periods, of all tenants.
    spending: list[Spent] = []
    #: Rate limits that are closed or probed, by reason: throttled, refused, failing.
    closed_rate_limits: dict[str, int] = {}
    #: Why a circuit breaker or rate limit of a sink is closed or probed: the worst of refused, failing, throttled.
    circuits: dict[str, str] = {}
    #: When one of the newest deliveries of each sink arrived.
    delivered_at: dict[str, datetime] = {}
    #: Observations and bodies in quarantine, by reason.
    quarantined: dict[str, int] = {}
    #: Rows waiting in the journal, by tenant.
    journal: list[Backlog] = []
    #: None where nothing is sealed.
    sealing: Sealing | None = None
    #: Names of access tokens whose newest token ends soon, or has ended lately, by tenant; empty: of no tenant.
    ending_tokens: dict[str, int] = {}
    archived: list[Archived] = []
    #: None where nothing is archived.
    retention: RetentionLag | None = None
    #: Revision of the database schema; empty in memory.
    schema_version: str = ""

    @staticmethod
    def circuits_of(closed: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Return the worst reason by sink. A rate limit's key begins with its sink."""
        found: dict[str, str] = {}
        for key, why in sorted(closed, key=lambda one: -CLOSED.index(one[1])):
            found[key.partition(":")[0]] = why
        return found

    @property
    def by_status(self) -> dict[str, int]:
        """Open tasks by status."""
        found: dict[str, int] = {}
        for each in self.tasks:
            found[each.status] = found.get(each.status, 0) + each.count
        return found
