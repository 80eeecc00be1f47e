"""All that is under way on one database: what gauges show of it, told by one process for all."""

from __future__ import annotations

import msgspec

from spanpost.model.budgets import Spent
from spanpost.model.journal import Backlog


class OpenTasks(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tasks that have not ended, of one status of now, agent, sort, environment and tenant."""

    status: str
    agent_name: str | None
    task_type: str | None
    environment: str | None
    tenant: str
    count: int
    #: Longest time since anything was heard of one of them, seconds.
    stall: float
    #: Largest share of a context window in use, 0 to 1; and the least time until one is as full as is warned of, seconds.
    context_share: float | None = None
    context_ahead: float | None = None


class OpenApprovals(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Questions that nobody has answered yet, of living tasks of one agent, environment and tenant."""

    agent_name: str | None
    environment: str | None
    tenant: str
    count: int
    #: Since the oldest was recorded, seconds.
    oldest: float


class Health(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How an agent does, of a tenant: 100 less what each cause takes away. The view `agent_health` is the same in SQL."""

    tenant: str
    agent_name: str
    #: 0 to 100.
    score: int
    #: What failed tasks, stalled and interrupted ones, questions that wait long, and a budget that is nearly spent take away.
    errors: int
    stalls: int
    waiting: int
    budget: int


class SinkQueue(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Deliveries to one sink: those that wait or are being sent, since when the oldest does (seconds), and those given up."""

    sink: str
    waiting: int
    oldest: float
    dead: int


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """The whole."""

    tasks: list[OpenTasks] = []
    approvals: list[OpenApprovals] = []
    deliveries: list[SinkQueue] = []
    health: list[Health] = []
    #: Budgets in their periods of now, of all tenants.
    spending: list[Spent] = []
    #: Budgets of calls that are closed or probed, by why: throttled, refused, failing.
    closed_rate_limits: dict[str, int] = {}
    #: Observations and bodies that no store could take, by reason.
    quarantined: dict[str, int] = {}
    #: What waits in the journal, by tenant.
    journal: list[Backlog] = []
    #: Revision of the database's schema; empty in memory.
    schema_version: str = ""

    @property
    def by_status(self) -> dict[str, int]:
        """Open tasks by status."""
        found: dict[str, int] = {}
        for each in self.tasks:
            found[each.status] = found.get(each.status, 0) + each.count
        return found
