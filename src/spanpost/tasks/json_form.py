"""The public JSON form of tasks and checkpoints, as ``spanpost replay --json`` and ``spanpost tasks --json``
print it.

Keys have a fixed order; a time is RFC 3339 in UTC, a cost a JSON number; unknown values are null, never 0 or
"". The page docs/reference/replay-format.md describes it; a change needs a line in the changelog.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.budgets import Spent
from spanpost.model.checkpoints import Checkpoint
from spanpost.model.context import Forecast
from spanpost.model.costs import ResultCost
from spanpost.model.evaluations import Evaluation
from spanpost.model.interventions import ApprovalRow
from spanpost.model.loops import Loop
from spanpost.model.messages import LocaleMessage
from spanpost.model.queries import StreamedCheckpoint
from spanpost.model.readings import Approval, Artifact, Failure, ReportedDecision
from spanpost.model.standing_approvals import StandingApproval
from spanpost.model.tasks import Step, Task
from spanpost.model.totals import Totals, totals
from spanpost.tasks.interventions import scopes
from spanpost.tasks.titles import title
from spanpost.text.legible import shown
from spanpost.text.sanitise import line, scrub


def report(
    tasks: Iterable[Task],
    checkpoints: Iterable[Checkpoint],
    dropped: Mapping[str, int],
    *,
    explained: Mapping[UUID, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return a replay as one JSON-ready object.

    With `explained`, by uid, each task has the rule that decided its status and its explanation.
    """
    tasks = list(tasks)
    sums = totals(tasks)
    ids = {task.uid: task.task_id for task in tasks}
    return {
        "tasks": [
            task_json(
                task, explained=None if explained is None else explained.get(task.uid, {}), totals=sums.get(task.uid)
            )
            for task in tasks
        ],
        "checkpoints": [checkpoint_json(one, ids.get(one.task_uid, str(one.task_uid))) for one in checkpoints],
        "dropped": dict(sorted(dropped.items())),
    }


def task_json(
    task: Task, *, explained: Mapping[str, Any] | None = None, totals: Totals | None = None
) -> dict[str, Any]:
    """Return one task. `totals` are its own figures plus those of all tasks below it."""
    out: dict[str, Any] = {
        "task_id": task.task_id,
        "parent_task_id": task.parent_task_id,
        "title": title(task),
        "name": task.name or None,
        "agent_name": task.agent_name,
        "status": task.status,
        "end_reason": task.end_reason,
        "inferred": task.is_inferred,
        "progress": task.progress,
        "last_checkpoint": task.last_checkpoint,
        "last_checkpoint_at": rfc3339(task.last_checkpoint_at),
        "named": task.is_named,
        "ask": task.ask,
        "answer": task.answer,
        "started_at": rfc3339(task.started_at),
        "ended_at": rfc3339(task.ended_at),
        "last_activity_at": rfc3339(task.last_activity_at),
        "input_tokens": task.input_tokens,
        "output_tokens": task.output_tokens,
        "cache_read_tokens": task.cache_read_tokens,
        "cache_write_tokens": task.cache_write_tokens,
        "reasoning_tokens": task.reasoning_tokens,
        "cost_usd": None if task.cost_usd is None else float(task.cost_usd),
        "unpriced_calls": task.unpriced_calls,
        "context_used_tokens": task.context_used_tokens,
        "context_window_tokens": task.context_window_tokens,
        "context_window_source": task.context_window_source or None,
        "context_forecast": _forecast(task.context_forecast),
        "loop": _loop(task.loop),
        "model": task.model,
        "llm_calls": task.llm_calls,
        "tool_calls": task.tool_calls,
        "tool_errors": task.tool_errors,
        "steps": [_step(one) for one in task.steps],
        "artifacts": [_artifact(one) for one in task.artifacts],
        "approvals": [_approval(one) for one in task.approvals],
        "error": _failure(task.error),
        "session_id": task.session_id,
        "retry_of": task.retry_of,
        "caused_by": task.caused_by,
        "order_id": task.order_id,
        "totals": None if totals is None else task_totals(totals),
    }
    if explained is not None:
        out["rule"] = task.rule or None
        out["explained"] = dict(explained)
        out["context_model"] = task.context_model
        out["context_max_output_tokens"] = task.context_max_output_tokens
    return out


def cost_json(cost: ResultCost) -> dict[str, Any]:
    """Return what a result cost: money as text."""
    return {
        "key": cost.key or None,
        "cost_usd": None if cost.cost_usd is None else f"{cost.cost_usd:f}",
        "tasks": cost.tasks,
        "pull_requests": cost.pull_requests,
        "partial": cost.is_partial,
    }


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return one evaluation. `source` is a person only for a rating given through spanpost."""
    return {
        "name": evaluation.name,
        "source": "person" if evaluation.is_person else "telemetry",
        "score": evaluation.score,
        "label": evaluation.label or None,
        "explanation": evaluation.explanation or None,
        "by": evaluation.by or None,
        "at": rfc3339(evaluation.at),
    }


def checkpoint_json(checkpoint: Checkpoint, task_id: str) -> dict[str, Any]:
    """Return one checkpoint of the task with that public id."""
    return {
        "id": str(checkpoint.id),
        "task_id": task_id,
        "kind": str(checkpoint.kind),
        "status": checkpoint.status,
        "text": checkpoint.text,
        **message_json(checkpoint.message),
        "at": rfc3339(checkpoint.at),
    }


def message_json(message: LocaleMessage | None) -> dict[str, Any]:
    """Return the catalogue message that a text renders in English, for programs that render it in another language."""
    return {
        "message": None if message is None else message.key,
        "values": {} if message is None else msgspec.to_builtins(message.values),
    }


def spent_json(spent: Spent) -> dict[str, Any]:
    """Return a budget: money as text."""
    return {
        "budget": spent.budget,
        "scope": dict(spent.scope),
        "began_at": rfc3339(spent.began_at),
        "ends_at": rfc3339(spent.ends_at),
        "cost_usd": str(spent.cost_usd),
        "tokens": spent.tokens,
        "calls": spent.calls,
        "unpriced_calls": spent.unpriced,
        "tool_calls": spent.tool_calls,
        "wall_seconds": round(spent.wall_time.total_seconds(), 3),
        "limit_usd": None if spent.limit_usd is None else str(spent.limit_usd),
        "limit_tokens": spent.limit_tokens,
        "limit_calls": spent.limit_calls,
        "limit_tool_calls": spent.limit_tool_calls,
        "limit_seconds": None if spent.limit_time is None else spent.limit_time.total_seconds(),
        "left_usd": None if spent.left_usd is None else str(spent.left_usd),
        "left_tokens": spent.left_tokens,
        "left_calls": spent.left_calls,
        "reserved_usd": str(spent.reserved_usd),
        "reserved_tokens": spent.reserved_tokens,
        "reserved_calls": spent.reserved_calls,
        "share": round(spent.share, 4),
        "at_limit": spent.at_limit,
        "raises": [
            {"by": one.by, "at": rfc3339(one.at), "until": rfc3339(one.until), "share": one.share}
            for one in spent.raises
        ],
    }


def streamed_json(one: StreamedCheckpoint) -> dict[str, Any]:
    """Return a checkpoint of the stream."""
    checkpoint, task = one.checkpoint, one.task
    return checkpoint_json(checkpoint, task.task_id) | {
        "detail": checkpoint.detail or None,
        "ref": checkpoint.ref or None,
        "progress": checkpoint.progress,
        "task_uid": str(task.uid),
        "root_uid": str(task.root_uid or task.uid),
        "task_name": title(task),
        "agent_name": task.agent_name,
        "task_status": task.status,
    }


def question_json(row: ApprovalRow, task: Task | None) -> dict[str, Any]:
    """Return a question to a person, as people read it."""
    read = shown(row)
    return {
        "key": str(row.key),
        "id": row.approval_id,
        "state": str(row.state),
        "task_uid": str(row.task_uid),
        "task_id": task.task_id if task is not None else None,
        "task_name": title(task) if task is not None else None,
        "agent_name": task.agent_name if task is not None else None,
        "question": read.question or None,
        "detail": read.detail or None,
        "options": list(read.options),
        "risk": read.risk or None,
        "tool": read.tool or None,
        "scopes": [str(scope) for scope in scopes(row, task)] if row.state == "open" else [],
        "needs": row.needs,
        "approved_by": [vote.by for vote in row.votes],
        "asked": [{"place": one.place, "at": rfc3339(one.at)} for one in row.asked],
        "standing_approval": row.rule or None,
        "is_whole": read.is_whole,
        "hidden": [str(why) for why in read.hidden],
        "requested_at": rfc3339(row.requested_at),
        "expires_at": rfc3339(row.expires_at),
        "decision": row.decision or None,
        "by": row.by or None,
        "comment": scrub(row.comment) or None,
        "source": row.source or None,
        "decided_at": rfc3339(row.decided_at),
        "is_asked": row.is_asked,
        "reported_decision": _reported(row.reported_decision),
    }


def standing_json(standing: StandingApproval) -> dict[str, Any]:
    """Return a standing approval."""
    return {
        "id": str(standing.id),
        "scope": str(standing.scope),
        "tool": line(standing.tool, 200),
        "risk": line(standing.risk, 200) or None,
        "task_uid": str(standing.task_uid),
        "agent": standing.agent,
        "repo": standing.repo,
        "service": standing.service,
        "environment": standing.environment,
        "requested_by": standing.requested_by,
        "granted_by": standing.granted_by,
        "reason": standing.reason or None,
        "source": standing.source,
        "granted_at": rfc3339(standing.granted_at),
        "expires_at": rfc3339(standing.expires_at),
        "revoked_at": rfc3339(standing.revoked_at),
        "revoked_by": standing.revoked_by or None,
        "used": standing.used,
        "last_used_at": rfc3339(standing.last_used_at),
    }


def rfc3339(at: datetime | None) -> str | None:
    """Return the time in UTC, as RFC 3339 with the digits of a second that it has."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def task_totals(totals: Totals) -> dict[str, Any]:
    """Return the figures of a task together with all tasks below it."""
    usage = totals.usage
    return {
        "tasks": totals.tasks,
        "llm_calls": totals.llm_calls,
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cache_read_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write,
        "reasoning_tokens": usage.reasoning,
        "cost_usd": None if usage.cost_usd is None else float(usage.cost_usd),
        "unpriced_calls": totals.unpriced_calls,
    }


def _forecast(forecast: Forecast | None) -> dict[str, Any] | None:
    return None if forecast is None else msgspec.structs.asdict(forecast)


def _loop(loop: Loop | None) -> dict[str, Any] | None:
    if loop is None:
        return None
    return {
        "kind": str(loop.kind),
        "id": loop.id,
        "tools": list(loop.tools),
        "count": loop.count,
        "at": rfc3339(loop.at),
        "is_dismissed": loop.is_dismissed,
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "index": step.index,
        "at": rfc3339(step.at),
        "count": step.count,
        "failed": step.is_failed,
    }


def _artifact(artifact: Artifact) -> dict[str, Any]:
    return {"name": artifact.name, "uri": artifact.uri or None, "kind": artifact.kind or None}


def _approval(approval: Approval) -> dict[str, Any]:
    return {
        "id": approval.id,
        "question": approval.question or None,
        "detail": approval.detail or None,
        "options": list(approval.options),
        "risk": approval.risk or None,
        "expires_at": approval.expires_at or None,
        "decision": approval.decision or None,
        "by": approval.by or None,
        "comment": scrub(approval.comment) or None,
        "source": approval.source or None,
        "reported_decision": _reported(approval.reported_decision),
    }


def _reported(one: ReportedDecision | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"decision": one.decision, "by": one.by, "comment": scrub(one.comment), "at": rfc3339(one.at)}


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {"type": failure.type or None, "message": failure.message or None, "log_tail": failure.log_tail or None}
