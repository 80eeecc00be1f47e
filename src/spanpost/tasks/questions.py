"""Rows of the kept questions: brought up to date with the tasks, and reported to agents that wait.

Rules. What a person decided stays. A decision that telemetry reports never counts where spanpost itself is
asked, and gives way to a person's everywhere. The same words under the same id, asked by any trace, have the
answer that a person gave to any of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from spanpost import semconv as c
from spanpost.model.interventions import ApprovalRow, AskedPlace, InterventionState, Verb
from spanpost.model.observations import Observation
from spanpost.model.readings import Approval, ReportedDecision
from spanpost.model.standing_approvals import StandingApproval
from spanpost.model.tasks import Task
from spanpost.tasks.approvals import APPROVAL, requested_id, topic_of
from spanpost.tasks.chains import next_at
from spanpost.tasks.folded import Folded, Placed
from spanpost.tasks.interventions import backing, decided
from spanpost.tasks.standing_approvals import answered, covering

#: Order among equal words: decided by a person and open first; a question that is over for one trace may be
#: open for another.
_WEIGHT = {
    InterventionState.OPEN: 0,
    InterventionState.DECIDED: 0,
    InterventionState.EXPIRED: 1,
    InterventionState.WITHDRAWN: 1,
    InterventionState.ENDED: 1,
    InterventionState.VOID: 2,
}


class KeptQuestion(msgspec.Struct):
    """Changes that a batch makes to the kept questions."""

    rows: dict[UUID, ApprovalRow] = {}
    #: Deadlines of questions that are new or have another deadline than before.
    timers: list[tuple[UUID, datetime]] = []
    #: When the next place of new questions is asked.
    next_places: list[tuple[UUID, datetime]] = []
    #: Topics on which agents may wait.
    topics: set[bytes] = set()
    #: Decisions that the asking task lacks: it asked again what was decided for another, or long ago.
    owed: list[Observation] = []
    #: Standing approvals that decided a new question, with the question and its task.
    uses: list[tuple[StandingApproval, ApprovalRow, Task]] = []

    @property
    def unasked(self) -> set[UUID]:
        """Checkpoints of questions that were decided at once: they are not posted."""
        return {requested_id(row.tenant, row.approval_id, row.mark, row.trace) for _, row, _ in self.uses}


def speaks_of_approvals(placed: Sequence[Placed], folded: Folded) -> bool:
    """Return whether kept questions may have to change."""
    if any(p.reading.approval is not None for p in placed):
        return True
    return any(folded.has_moved or a.is_open for task in folded.tasks for a in task.approvals)


def questions_of(tasks: Iterable[Task]) -> tuple[set[UUID], set[tuple[str, str, str]]]:
    """Return the keys of the tasks' questions, and those that may have been decided for another trace.

    The latter by tenant, id and mark.
    """
    asked = [(task.tenant, a) for task in tasks for a in task.approvals if a.key is not None]
    return {a.key for _, a in asked if a.key is not None}, {
        (tenant, a.id, a.mark) for tenant, a in asked if not a.source
    }


def tools_of(tasks: Iterable[Task], known: Mapping[UUID, ApprovalRow]) -> list[tuple[Task, str]]:
    """Return the tools of the tasks' new questions, each with its task: standing approvals may cover them."""
    return [
        (task, a.tool) for task in tasks for a in task.approvals if a.tool and a.key is not None and a.key not in known
    ]


def keep(
    known: Mapping[UUID, ApprovalRow],
    decided_before: Iterable[ApprovalRow],
    tasks: Iterable[Task],
    now: datetime,
    standing: Sequence[StandingApproval] = (),
) -> KeptQuestion:
    """Return what the questions of these tasks change in the kept rows.

    `decided_before`: people's decisions on the same words under the same ids, for any trace; of a question that
    needs several people only what as many decided. `standing`: standing approvals in force, for new questions.
    """
    out = KeptQuestion()
    answers = {(row.tenant, row.approval_id, row.mark): row for row in decided_before}
    for task in tasks:
        for a in task.approvals:
            if a.key is None:
                continue
            before = out.rows.get(a.key) or known.get(a.key)
            row = _row(a, task, now) if before is None else _merged(before, a, task)
            answer = row if row.is_decided else answers.get((task.tenant, a.id, a.mark))
            if answer is not None and answer.decision != Verb.DENY and backing(answer) < row.needs:
                answer = None
            if answer is None and before is None:
                one = covering(standing, row, task, now)
                if one is not None:
                    answer = answered(row, one, now)
                    out.uses.append((one, answer, task))
            if answer is not None and not a.is_void:
                row = _answered(row, answer) if answer is not row else row
                if not a.source:  # the task lacks the decision: another trace asked, or the task has forgotten it
                    on = msgspec.structs.replace(answer, span=a.span or row.span)
                    out.owed.append(decided(on, on.decided_at or now, again=a.asked_at or now))
            if row == before:
                continue
            out.rows[row.key] = row
            is_open = row.state is InterventionState.OPEN
            was_open = before is not None and before.state is InterventionState.OPEN
            if (
                is_open
                and row.expires_at is not None
                and (before is None or not was_open or before.expires_at != row.expires_at)
            ):
                out.timers.append((row.key, row.expires_at))
            if before is None and (next_place := next_at(row)) is not None:
                out.next_places.append((row.key, next_place))
            if was_open != is_open or before is None:
                out.topics.add(topic_of(row.tenant, APPROVAL, row.approval_id))
    return out


def _row(a: Approval, task: Task, now: datetime) -> ApprovalRow:
    assert a.key is not None
    return ApprovalRow(
        key=a.key,
        tenant=task.tenant,
        approval_id=a.id,
        mark=a.mark,
        is_asked=a.is_asked,
        is_cut=a.is_cut,
        task_uid=task.uid,
        span=a.span or f"{task.trace_id.hex()}-{task.span_id.hex()}",
        question=a.question,
        detail=a.detail,
        options=a.options,
        risk=a.risk,
        tool=a.tool,
        needs=a.needs,
        places=a.to,
        places_after=a.to_after,
        resume=a.resume,
        asked=tuple(AskedPlace(place=place, at=now) for place in a.to[:1]),
        requested_at=a.asked_at or now,
        expires_at=a.deadline,
        at_expiry=a.at_expiry,
        escalated_at=a.escalated_at,
        state=_state_of(a),
        decision=a.decision,
        by=a.by,
        comment=a.comment,
        source=a.source,
        decided_at=a.decided_at,
        reported_decision=a.reported_decision,
    )


def _state_of(a: Approval) -> InterventionState:
    if a.is_open:
        return InterventionState.OPEN
    if a.is_void:
        return InterventionState.VOID
    if a.is_ended:
        return InterventionState.ENDED
    if a.is_withdrawn:
        return InterventionState.WITHDRAWN
    return InterventionState.EXPIRED if a.is_expired else InterventionState.DECIDED


def _merged(row: ApprovalRow, a: Approval, task: Task) -> ApprovalRow:
    """Return a kept question with what its task knows now.

    A decision stays, and so does that spanpost itself is asked.
    """
    row = msgspec.structs.replace(
        row, is_asked=row.is_asked or a.is_asked, is_cut=row.is_cut and a.is_cut, needs=max(row.needs, a.needs)
    )
    if (a.asked_at or row.requested_at) >= row.requested_at:
        # Asked again: the question is the same, its deadline may differ.
        until = a.deadline if row.escalated_at is None or a.asked_at != row.requested_at else row.expires_at
        row = msgspec.structs.replace(
            row,
            task_uid=task.uid,
            span=a.span or row.span,
            requested_at=a.asked_at or row.requested_at,
            expires_at=until,
            at_expiry=a.at_expiry,
        )
    if row.state is InterventionState.WITHDRAWN:
        return msgspec.structs.replace(row, reported_decision=a.reported_decision or row.reported_decision)
    if row.is_decided:
        return row
    if a.decision:
        row = msgspec.structs.replace(
            row,
            state=_state_of(a),
            decision=a.decision,
            by=a.by,
            comment=a.comment,
            source=a.source,
            decided_at=a.decided_at,
            reported_decision=a.reported_decision,
        )
        # A task that does not know that spanpost is asked takes a reported decision for an answer.
        return row if a.source or not row.is_asked else _open(row)
    return msgspec.structs.replace(
        _open(row),
        state=_state_of(a),
        reported_decision=a.reported_decision,
    )


def _answered(row: ApprovalRow, answer: ApprovalRow) -> ApprovalRow:
    return msgspec.structs.replace(
        row,
        state=answer.state,
        decision=answer.decision,
        by=answer.by,
        by_id=answer.by_id,
        comment=answer.comment,
        source=answer.source,
        decided_at=answer.decided_at,
        rule=answer.rule,
        votes=answer.votes,
        reported_decision=None,
    )


def answerable(rows: Sequence[ApprovalRow]) -> list[ApprovalRow]:
    """Return the questions that an answer by their id may mean, of its `rows`, the newest first: one for
    each wording.

    Where none waits for an answer, the newest: so that the caller learns its result.
    """
    waiting = [
        row for row in rows if not row.is_decided and row.state not in (InterventionState.VOID, InterventionState.ENDED)
    ]
    return list({row.mark: row for row in reversed(waiting)}.values()) or list(rows[:1])


def awaited(row: ApprovalRow) -> ApprovalRow:
    """Return a question that an agent waits for: from now on spanpost is asked, and reported decisions do not count."""
    if row.is_decided or row.state is InterventionState.VOID:
        return msgspec.structs.replace(row, is_asked=True)
    return _open(msgspec.structs.replace(row, is_asked=True))


def withdrawn(row: ApprovalRow, reason: str, now: datetime) -> ApprovalRow:
    """Return the row of an open question that nothing waits for any more. It grants nothing."""
    return msgspec.structs.replace(
        row,
        state=InterventionState.WITHDRAWN,
        decision=c.WITHDRAWN,
        comment=reason,
        source=c.WITHDRAWAL,
        decided_at=now,
        reported_decision=None,
    )


def _open(row: ApprovalRow) -> ApprovalRow:
    reported_decision = row.reported_decision
    if row.decision:
        reported_decision = ReportedDecision(decision=row.decision, by=row.by, comment=row.comment, at=row.decided_at)
    return msgspec.structs.replace(
        row,
        state=InterventionState.OPEN,
        decision="",
        by="",
        by_id="",
        comment="",
        decided_at=None,
        reported_decision=reported_decision,
    )


def question_of(rows: Sequence[ApprovalRow], *, mark: str, trace: str, is_all: bool) -> tuple[ApprovalRow | None, str]:
    """Return the question that an agent waits for, and an error where several match; empty: no error.

    `rows` are the questions of one id that match `mark` and `trace` as the agent named them, the newest
    first. `is_all` is false where there are more.
    """
    if not rows:
        return None, ""
    standing = [row for row in rows if row.state is not InterventionState.VOID]
    if trace and not mark:  # the newest question of that trace
        return (standing or rows)[0], ""
    if not mark and (not is_all or len({row.mark for row in standing}) > 1):
        said = "it was asked in several wordings: name the mark of yours (mark=), or the trace that asks (trace=)"
        return rows[0], said
    return min(
        rows, key=lambda row: (not row.is_decided or row.state is InterventionState.EXPIRED, _WEIGHT[row.state])
    ), ""
