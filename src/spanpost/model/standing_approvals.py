"""Standing approvals: what a person allows beyond one question, and until when."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec


class Scope(StrEnum):
    """How far an approval goes. Public: rows, JSON, action ids of buttons."""

    #: This question alone.
    ONCE = "once"
    #: This tool in the task that asked.
    TASK = "task"
    #: This tool of the same agent in the same place for the same requester, for one hour.
    HOUR = "hour"
    #: This tool of the same agent in the same place, until the end that the settings give.
    ALWAYS = "always"


class StandingApproval(msgspec.Struct, frozen=True, kw_only=True):
    """A person's approval of future questions of one tool. Every condition is compared exactly."""

    id: UUID
    tenant: str
    scope: Scope
    #: The tool, and the risk that the question stated: another risk is not covered.
    tool: str
    risk: str = ""
    #: The task of `Scope.TASK`; of the others the task in which it was granted.
    task_uid: UUID
    #: Conditions of `Scope.HOUR` and `Scope.ALWAYS`, as the task that asked says; None: it says nothing.
    agent: str | None = None
    repo: str | None = None
    service: str | None = None
    environment: str | None = None
    #: Condition of `Scope.HOUR`.
    requested_by: str | None = None
    #: The owner: name, identity (provider, team and id) and verified email address.
    granted_by: str
    granted_by_id: str
    granted_by_email: str = ""
    #: Where it was granted: slack, api, app, cli.
    source: str = ""
    reason: str = ""
    #: The question on which it was granted.
    approval_key: UUID
    granted_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    revoked_by: str = ""
    revoked_by_id: str = ""
    #: Questions that it decided.
    used: int = 0
    last_used_at: datetime | None = None

    def is_in_force(self, now: datetime) -> bool:
        """Return whether it covers questions that are recorded now."""
        return self.revoked_at is None and self.expires_at > now


class StandingQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which standing approvals to list, newest first."""

    tenant: str | None = None
    #: Only those in force; False: the others as well.
    is_in_force: bool = True
    limit: int = 200
