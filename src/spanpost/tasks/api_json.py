"""The JSON of the API for tasks, their timelines and sums; ``spanpost show --json`` prints the same.

Values are as they are in Python (times, money): `spanpost.interactions.api.responses` and the command line write them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from spanpost.model.evaluations import newest
from spanpost.model.queries import Stats, Sums, TimelineEntry
from spanpost.model.tasks import Task
from spanpost.model.totals import Totals
from spanpost.semconv import ERROR
from spanpost.tasks.failures import failure_line
from spanpost.tasks.json_form import evaluation_json, message_json, rfc3339, task_json, task_totals
from spanpost.text.sanitise import line

#: Characters of a question or an error in a list.
_SHORT = 300
_DETAILS = ("steps", "artifacts", "approvals", "error", "totals")


def task_summary(task: Task) -> dict[str, Any]:
    """Return a task for a list."""
    fields = {name: value for name, value in task_json(task).items() if name not in _DETAILS}
    return fields | {
        "uid": str(task.uid),
        "parent_uid": str(task.parent_uid) if task.parent_uid is not None else None,
        "root_uid": str(task.root_uid or task.uid),
        "tenant": task.tenant,
        "type": task.type,
        "environment": task.environment,
        "service": task.service,
        "topic": task.topic,
        "repo": task.repo,
        "requested_by": task.requested_by,
        "action": task.action,
        "step_name": task.step_name,
        "step_index": task.step_index,
        "step_count": task.step_count,
        "last_event_at": rfc3339(task.last_event_at),
        "cost_usd": task.cost_usd,
        "child_count": task.child_count,
        "child_failed": task.child_failed,
        "working_children": task.working_children,
        "waiting_children": task.waiting_children,
        "failed_children": task.failed_children,
        "done_children": task.done_children,
        "open_child_approvals": task.open_child_approvals,
        "child_question": line(task.child_question or "", _SHORT) or None,
        "child_question_uid": str(task.child_question_uid) if task.child_question_uid is not None else None,
        "open_approvals": len(task.open_approvals),
        "question": _question(task),
        "failure": (failure_line(task.error) or None) if task.status == ERROR else None,
        "waits_for_person": task.waits_for_person,
        "announced": task.is_announced,
        "muted": task.is_muted,
        "cancel_by": task.cancel_by or None,
        "paused_by": task.paused_by or None,
        "trace_id": task.trace_id.hex() or None,
        "traceparent": f"00-{task.trace_id.hex()}-{task.span_id.hex()}-01" if task.trace_id and task.span_id else None,
    }


def totals_json(totals: Totals | None) -> dict[str, Any]:
    """Return the figures of a task together with all tasks below it, as one field of the task."""
    if totals is None:
        return {"totals": None}
    return {"totals": task_totals(totals) | {"cost_usd": totals.usage.cost_usd}}


def task_whole(
    task: Task,
    children: Iterable[Task],
    after: Iterable[Task],
    questions: Iterable[dict[str, Any]],
    acts: Iterable[str],
) -> dict[str, Any]:
    """Return a whole task. `after`: its follow-ups; `questions` as `asked_json` returns them."""
    fields = task_json(task)
    return task_summary(task) | {
        "aliases": list(task.aliases),
        "agent_id": task.agent_id,
        "agent_version": task.agent_version,
        "runs": task.runs,
        "steps": fields["steps"],
        "artifacts": fields["artifacts"],
        "evaluations": [evaluation_json(one) for one in newest(task.evaluations)],
        "approvals": list(questions),
        "error": fields["error"],
        "links": task.links,
        "results": task.results,
        "children": [task_summary(child) for child in children],
        "followed_by": [task_summary(one) for one in after],
        "acts": list(acts),
    }


def _question(task: Task) -> str | None:
    return next((said for one in task.open_approvals if (said := line(one.question, _SHORT))), None)


def timeline_entry_json(one: TimelineEntry) -> dict[str, Any]:
    """Return an entry of a timeline."""
    return {
        "id": str(one.key.id),
        "at": rfc3339(one.key.at),
        "source": one.source,
        "kind": one.kind,
        "text": one.text,
        **message_json(one.message),
        "status": one.status,
        "detail": one.detail,
        "seconds": one.seconds,
        "by": one.by,
        "result": one.result,
        "span_id": one.span_id.hex() or None,
        "content": one.content,
    }


def stats_json(stats: Stats, since: datetime, until: datetime) -> dict[str, Any]:
    """Return sums over tasks."""

    def sums(one: Sums, name: str | None = None) -> dict[str, Any]:
        figures = (
            "input_tokens",
            "output_tokens",
            "cost_usd",
            "unpriced_calls",
            "llm_calls",
            "tool_calls",
            "tool_errors",
        )
        return ({name: one.word} if name else {}) | {
            "tasks": one.tasks,
            **{figure: getattr(one, figure) for figure in figures},
            "ended": one.ended,
            "failed": one.failed,
            "seconds_mean": one.seconds_mean,
            "seconds_p50": one.seconds_p50,
            "seconds_p95": one.seconds_p95,
        }

    return {
        "since": since,
        "until": until,
        "total": sums(stats.total),
        "agents": [sums(one, "agent_name") for one in stats.agents],
        "days": [sums(one, "day") for one in stats.days],
        "statuses": [sums(one, "status") for one in stats.statuses],
    }
