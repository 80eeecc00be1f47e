"""Standing approvals: what they cover, how they are granted and used. The same rules for every store.

Rules. A standing approval comes of one question that a person approved, and covers the new questions of the same
tool with the same risk: in the same task; or of the same agent, repository, service and environment, for an hour
also for the same requester. Without a repository the requester is always the same: a coding CLI has one service
for all people. All are compared exactly, so a name that looks alike is another name. It covers only what one
person may approve now: an open question without options, whole, that needs no second person. It has an end, and
one that is over or revoked covers nothing. Its decision counts for that question alone: the same words elsewhere
are asked there.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec

from spanpost.model.ids import named
from spanpost.model.interventions import Actor, ApprovalRow, Intervention, InterventionState, Result, Verb, Verdict
from spanpost.model.standing_approvals import Scope, StandingApproval
from spanpost.model.tasks import Task
from spanpost.tasks.approval_rules import ApprovalRules
from spanpost.tasks.interventions import RULE, answers, id_of, name_of, scopes


def granted(act: Intervention, row: ApprovalRow, task: Task, now: datetime, rules: ApprovalRules) -> StandingApproval:
    """Return the standing approval that an approving act grants."""
    return StandingApproval(
        id=UUID(bytes=named(f"{act.tenant}\0standing\0{act.idempotency_key}")),
        tenant=row.tenant,
        scope=act.scope,
        tool=row.tool,
        risk=row.risk,
        task_uid=task.uid,
        agent=task.agent_name,
        repo=task.repo,
        service=task.service,
        environment=task.environment,
        requested_by=task.requested_by,
        granted_by=name_of(act.actor),
        granted_by_id=id_of(act.actor),
        granted_by_email=act.actor.email,
        source=act.source or act.actor.provider,
        reason=act.text,
        approval_key=row.key,
        granted_at=now,
        expires_at=now + rules.lasts(act.scope),
    )


def covers(standing: StandingApproval, row: ApprovalRow, task: Task, now: datetime) -> bool:
    """Return whether a standing approval decides a question that is recorded now."""
    if not standing.is_in_force(now) or Verb.APPROVE not in answers(row, task, now):
        return False
    if standing.scope not in scopes(row, task):
        return False
    if (standing.tenant, standing.tool, standing.risk) != (row.tenant, row.tool, row.risk) or task.tenant != row.tenant:
        return False
    if standing.scope is Scope.TASK:
        return standing.task_uid == task.uid
    place = (standing.agent, standing.repo, standing.service, standing.environment)
    if place != (task.agent_name, task.repo, task.service, task.environment):
        return False
    is_for_all = standing.scope is Scope.ALWAYS and task.repo is not None
    return is_for_all or standing.requested_by == task.requested_by


def covering(known: Iterable[StandingApproval], row: ApprovalRow, task: Task, now: datetime) -> StandingApproval | None:
    """Return the standing approval that decides a question: the oldest of those that cover it."""
    found = [one for one in known if covers(one, row, task, now)]
    return min(found, key=lambda one: (one.granted_at, one.id), default=None)


def answered(row: ApprovalRow, standing: StandingApproval, now: datetime) -> ApprovalRow:
    """Return a question after a standing approval decided it."""
    return msgspec.structs.replace(
        row,
        state=InterventionState.DECIDED,
        decision=str(Verb.APPROVE),
        by=standing.granted_by,
        by_id=standing.granted_by_id,
        comment=standing.reason,
        source=RULE,
        rule=str(standing.id),
        decided_at=now,
        reported_decision=None,
    )


def use_of(standing: StandingApproval, row: ApprovalRow, task: Task, now: datetime) -> tuple[Intervention, Verdict]:
    """Return the act and the verdict under which a use is kept: the owner is the person behind it."""
    provider, _, id = standing.granted_by_id.partition(":")
    act = Intervention(
        tenant=row.tenant,
        verb=Verb.APPROVE,
        key=row.key,
        actor=Actor(
            provider=provider,
            id=id,
            name=standing.granted_by,
            email=standing.granted_by_email,
            credential=f"standing approval {standing.id}",
        ),
        text=standing.reason,
        source=RULE,
        scope=standing.scope,
        rule=standing.id,
        idempotency_key=f"{RULE} {standing.id} {row.key} {row.requested_at.isoformat()}",
        at=now,
    )
    verdict = Verdict(
        result=Result.DONE,
        task_uid=task.uid,
        task_id=task.task_id,
        decision=str(Verb.APPROVE),
        by=standing.granted_by,
        decided_at=now,
        rule=standing.id,
    )
    return act, verdict


def counted(standing: StandingApproval, now: datetime) -> StandingApproval:
    """Return a standing approval after it decided a question."""
    return msgspec.structs.replace(standing, used=standing.used + 1, last_used_at=now)


def revocation(act: Intervention, standing: StandingApproval | None, now: datetime) -> Verdict:
    """Return the result of revoking a standing approval."""
    if standing is None or standing.tenant != act.tenant:
        return Verdict(result=Result.UNKNOWN)
    if act.refusal:
        return Verdict(result=Result.REFUSED, task_uid=standing.task_uid, rule=standing.id)
    if standing.revoked_at is not None:
        return Verdict(
            result=Result.DECIDED,
            task_uid=standing.task_uid,
            decision=str(Verb.REVOKE),
            by=standing.revoked_by,
            decided_at=standing.revoked_at,
            rule=standing.id,
        )
    if not standing.is_in_force(now):
        return Verdict(result=Result.EXPIRED, task_uid=standing.task_uid, rule=standing.id)
    return Verdict(
        result=Result.DONE, task_uid=standing.task_uid, by=name_of(act.actor), decided_at=now, rule=standing.id
    )


def revoked(standing: StandingApproval, act: Intervention, now: datetime) -> StandingApproval:
    """Return a standing approval after it was revoked."""
    return msgspec.structs.replace(
        standing, revoked_at=now, revoked_by=name_of(act.actor), revoked_by_id=id_of(act.actor)
    )
