"""When people are asked a question: at once, or after a grace in which it may be answered where the agent runs.

Rules. A question with `agent.approval.ask_after` is open at once, and its deliveries are planned when that time
is over. If it is closed before, none of its deliveries is made, and the checkpoint of its closing goes nowhere
either. While a question waits so, the message of its root task is not edited, because it would show the
question. Of a session of which nothing is known but the questions of its permission hooks, begin and end are not
delivered: only the questions that people are asked, and what else it reports.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.readings import Approval
from spanpost.model.tasks import Task
from spanpost.tasks.folded import Timer
from spanpost.tasks.reported import Reported, UnaskedQuestion
from spanpost.tasks.work import Key

#: Beginnings of the ids of permission hooks' questions: of one at a prompt, and of a deferred call.
HOOK, DEFERRED = "hook-", "deferred-"
#: Checkpoints that are not delivered of a session that is known by its hooks alone.
LIFE = frozenset({Kind.START, Kind.END, Kind.STALLED})
#: Questions of one root task that are kept here, the newest.
MOST = 64


def hold(before: Reported, task: Task | None, checkpoint: Checkpoint, of: Key, now: datetime) -> Reported | None:
    """Return the value that holds a question, or forgets a held one that is closed; None: deliver the checkpoint."""
    if checkpoint.kind is Kind.APPROVAL_RESOLVED:
        return without(before, {checkpoint.ref}) if any(one.is_of(checkpoint.ref) for one in before.unasked) else None
    asked = task.approval_of(checkpoint.id) if task is not None and checkpoint.kind is Kind.APPROVAL_REQUESTED else None
    if asked is None or asked.asked_at is None or asked.ask_at is None or asked.escalated_by == checkpoint.id:
        return None
    if not asked.is_open:
        is_early = asked.decided_at is not None and asked.decided_at < asked.ask_at
        return without(before, {asked.id}) if is_early else None
    # A question has its sender's time: its grace is over one such time from now at the latest.
    due_at = min(asked.ask_at, now + (asked.ask_at - asked.asked_at))
    if due_at <= now:
        return None
    others = [one for one in before.unasked if one.checkpoint.id != checkpoint.id]
    held_before = [one.due_at for one in before.unasked if one.checkpoint.id == checkpoint.id]
    held = UnaskedQuestion(checkpoint, of, min([due_at.timestamp(), *held_before]))
    return replace(before, unasked=(*others, held)[-MOST:])


def without(before: Reported, ids: set[str]) -> Reported:
    """Return the value in which these questions need no further delivery."""
    left = tuple(one for one in before.unasked if one.checkpoint.ref not in ids)
    return replace(
        before,
        unasked=left,
        closed_questions=(*before.closed_questions, *sorted(ids - set(before.closed_questions)))[-MOST:],
    )


def is_of_questions_alone(task: Task | None) -> bool:
    """Tell whether nothing is known of a task but questions of permission hooks."""
    if task is None or task.span_id or task.llm_calls or task.tool_calls or task.steps or not task.approvals:
        return False
    return all(one.id.startswith((HOOK, DEFERRED)) for one in task.approvals)


def is_unasked(before: Reported, task: Task | None) -> bool:
    """Tell whether nothing is known of a task but questions, all of which were closed before people were asked."""
    if task is None or not is_of_questions_alone(task):
        return False
    return all(not a.is_open and a.id in before.closed_questions for a in task.approvals)


def newly_reported(before: Reported, task: Task | None) -> list[Approval]:
    """Return the questions of a task whose messages must be edited without a checkpoint.

    Those that were withdrawn and of which telemetry now reports how they were settled, and those that ended with the
    task.
    """
    known = task.approvals if task is not None else ()
    closed = [a for a in known if a.is_ended or (a.is_withdrawn and a.reported_decision is not None)]
    return [a for a in closed if a.id not in before.closed_questions]


def shown_again(asked: Approval, task: Task, now: datetime) -> Checkpoint | None:
    """Return the checkpoint by which a question's message is edited."""
    if asked.key is None:
        return None
    return Checkpoint(
        id=asked.key,
        tenant=task.tenant,
        task_uid=task.uid,
        kind=Kind.APPROVAL_RESOLVED,
        status=task.status,
        text="",
        at=now,
        ref=asked.id,
    )


def timer(root: Key, before: Reported) -> list[Timer]:
    """Return the timer of the held question that is due first."""
    if not before.unasked:
        return []
    at = datetime.fromtimestamp(min(one.due_at for one in before.unasked), UTC)
    return [Timer(root[:16] + b"q" + root[17:], at)]
