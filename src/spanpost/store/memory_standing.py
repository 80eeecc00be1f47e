"""Standing approvals in memory: the same rules as `standing_rows`, over a dictionary."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from spanpost.model.interventions import ApprovalRow, Intervention, Result, Verdict
from spanpost.model.standing_approvals import StandingApproval, StandingQuery
from spanpost.model.tasks import Task
from spanpost.store.memory_tables import MemoryTables
from spanpost.tasks import standing_approvals as approving


class MemoryStanding:
    """The standing approvals of one process."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables
        self.rows: dict[UUID, StandingApproval] = {}

    def grant(self, act: Intervention, row: ApprovalRow, task: Task, now: datetime) -> UUID:
        """Keep the standing approval that an act grants; return its id."""
        granted = approving.granted(act, row, task, now, self._tables.rules.approvals)
        self.rows[granted.id] = granted
        return granted.id

    def count(self, id: UUID, now: datetime) -> None:
        """Count a question that a standing approval decided."""
        self.rows[id] = approving.counted(self.rows[id], now)

    def revoke(self, act: Intervention, now: datetime) -> Verdict:
        """End a standing approval."""
        standing = self.rows.get(act.key)
        verdict = approving.revocation(act, standing, now)
        if verdict.result is Result.DONE and standing is not None:
            self.rows[standing.id] = approving.revoked(standing, act, now)
        return verdict

    def now(self) -> list[StandingApproval]:
        """Return the standing approvals, each with the task that its task has become."""
        found = []
        for one in self.rows.values():
            task = self._tables.task(one.task_uid)
            found.append(msgspec.structs.replace(one, task_uid=task.uid) if task is not None else one)
        return found

    def listed(self, query: StandingQuery) -> list[StandingApproval]:
        """List standing approvals, newest first."""
        now = self._tables.clock()
        found = [
            one
            for one in self.rows.values()
            if query.tenant in (None, one.tenant) and (one.is_in_force(now) or not query.is_in_force)
        ]
        return sorted(found, key=lambda one: (-one.granted_at.timestamp(), one.id))[: query.limit]
