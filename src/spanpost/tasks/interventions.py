"""Results of people's acts, and of the questions that are kept: the same rules for every store.

Rules. The first decision of a person stands; one that telemetry reported before is no decision. A question
that was asked again in other words is void, one past its deadline is expired, one that people cannot read
whole can only be denied, and a refused act changes nothing. A decision that stands is recorded as an
observation of its own (`Part.INTERVENTION`) on the span that asked, and folded like any other: so a replay
gives the same result. The same words under the same id are answered for every trace that asks them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from spanpost import semconv as c
from spanpost.model.interventions import (
    Actor,
    ApprovalRow,
    Intervention,
    InterventionState,
    Result,
    Verb,
    Verdict,
    Vote,
)
from spanpost.model.launch_orders import Order
from spanpost.model.observations import Observation, Part, log_index, nanoseconds
from spanpost.model.readings import Approval
from spanpost.model.standing_approvals import Scope
from spanpost.model.tasks import Task
from spanpost.tasks.approvals import TASK, ends_with, topic_of
from spanpost.tasks.votes import is_requester, with_vote
from spanpost.text.legible import hidden, shown

#: Kind of the timer of a question's deadline: it follows the 16 bytes of the question's key.
TIMER = b"a"
#: The `source` of a decision that a deadline made.
SPANPOST = "spanpost"
#: What a deadline, a chain or a withdrawal does to a question: verbs of rows without a person.
EXPIRE, ESCALATE, ASK_NEXT, WITHDRAW = "expire", "escalate", "ask_next", "withdraw"
#: The `source` of a decision that a standing approval made.
RULE = "rule"
_INTERRUPTED = "interrupted"
#: Name of a service that names none (OpenTelemetry SDKs).
_UNNAMED = "unknown_service"


def judge(
    act: Intervention, row: ApprovalRow | None, task: Task | None, now: datetime, standing: Order | None = None
) -> Verdict:
    """Return the result of an act.

    `row` is the question of a decision; `task` the task of the act, None where it is gone; `standing` the
    order that already starts this run of the task again.
    """
    if act.verb is Verb.START:
        return Verdict(result=Result.REFUSED if act.refusal else Result.DONE, by=name_of(act.actor))
    if (row is None if act.verb.is_decision else task is None) or (task is not None and task.tenant != act.tenant):
        return Verdict(result=Result.UNKNOWN)
    if row is not None and row.tenant != act.tenant:
        return Verdict(result=Result.UNKNOWN)
    about: dict[str, Any] = {
        "task_uid": task.uid if task is not None else None,
        "task_id": task.task_id if task is not None else "",
    }
    if act.refusal:
        return Verdict(result=Result.REFUSED, **about)
    if row is None:
        assert task is not None
        if standing is not None:
            order: dict[str, Any] = {
                "decision": str(act.verb),
                "by": standing.by,
                "decided_at": standing.at,
                "order_id": standing.id,
            }
            return Verdict(result=Result.DECIDED, **about, **order)
        return Verdict(
            result=Result.TOO_LATE if _is_too_late(act.verb, task) else Result.DONE,
            decision=decision_of(act),
            by=name_of(act.actor),
            **about,
        )
    decided: dict[str, Any] = {"decision": row.decision, "by": row.by, "decided_at": row.decided_at}
    if row.state is InterventionState.VOID:
        return Verdict(result=Result.VOID, **about)
    if row.state is InterventionState.WITHDRAWN:
        return Verdict(result=Result.WITHDRAWN, **about)
    if row.is_decided:
        return Verdict(
            result=Result.EXPIRED if row.state is InterventionState.EXPIRED else Result.DECIDED, **about, **decided
        )
    if is_over(row, now):  # not marked yet: the watch on deadlines was down, or is about to see it
        return Verdict(result=Result.EXPIRED, **about)
    if row.state is InterventionState.ENDED or _is_over_for(row, task):
        return Verdict(result=Result.TOO_LATE, **about)
    if not is_whole(row):
        if act.verb is not Verb.DENY:
            return Verdict(result=Result.HIDDEN, **about)
    elif (act.option not in row.options) if act.verb is Verb.CHOOSE else (row.options and act.verb not in row.options):
        return Verdict(result=Result.UNKNOWN, **about)
    if act.scope is not Scope.ONCE and act.scope not in scopes(row, task):
        return Verdict(result=Result.NO_SCOPE, **about)
    by = name_of(act.actor)
    if row.needs > 1 and decision_of(act) != Verb.DENY:
        if task is not None and is_requester(act.actor, task.requested_by):
            return Verdict(result=Result.REFUSED, **about)
        count = sum(vote.decision == decision_of(act) for vote in votes_with(row, act, now))
        result = Result.DONE if count >= row.needs else Result.COUNTED
        return Verdict(result=result, decision=decision_of(act), by=by, approvals=count, needs=row.needs, **about)
    return Verdict(result=Result.DONE, decision=decision_of(act), by=by, **about)


def _has_ended(task: Task) -> bool:
    # An agent whose process is gone may come back and ask again: it comes back for the decision made
    # meanwhile.
    return task.status in c.FINAL_STATUSES and task.ended_at is not None and task.end_reason != _INTERRUPTED


def _is_over_for(row: ApprovalRow, task: Task | None) -> bool:
    """Return whether a question ended with its task."""
    if task is None or not _has_ended(task):
        return False
    return ends_with(task.status, task.end_reason, is_asked=row.is_asked, may_resume=bool(row.resume))


def is_whole(asked: ApprovalRow | Approval) -> bool:
    """Return whether people can read all of a question (`text.legible`).

    One that is not whole is denied or asked anew.
    """
    return not hidden(asked)


def why_not_whole(row: ApprovalRow) -> str:
    """Return why a question cannot be approved as it stands, in words for the agent that asked; empty where it can."""
    if row.is_cut:
        return (
            "the question cannot be approved, only denied: not all of it came, or its mark is of other words; ask"
            f" with at most {c.QUESTION_LIMIT} characters of question and of detail, {c.OPTIONS_LIMIT} options and"
            f" {c.OPTION_LIMIT} characters of each"
        )
    if not is_whole(row):
        return (
            "the question cannot be approved, only denied: part of it is hidden from people because it looks like a"
            " secret, or cannot be seen; ask without it"
        )
    return ""


def _is_too_late(verb: Verb, task: Task) -> bool:
    if verb is Verb.DISMISS:
        return task.loop is None or task.loop.is_dismissed or _has_ended(task)
    if verb in (Verb.MUTE, Verb.UNMUTE, Verb.RATE):
        return False
    if verb is Verb.RETRY:
        return task.status not in (c.ERROR, c.CANCELLED)
    return _has_ended(task)


def possible(task: Task) -> tuple[Verb, ...]:
    """Return the verbs that would change the task as it is.

    Whether a person is allowed to use them is decided elsewhere.
    """
    muting = Verb.UNMUTE if task.is_muted else Verb.MUTE
    if task.status in c.FINAL_STATUSES:
        return (Verb.RATE, muting) if _is_too_late(Verb.RETRY, task) else (Verb.RETRY, Verb.RATE, muting)
    if _has_ended(task):
        return (Verb.RATE, muting)
    found = [] if task.cancel_by else [Verb.CANCEL]
    found.append(Verb.RESUME if task.paused_by or task.status == c.PAUSED else Verb.PAUSE)
    if not _is_too_late(Verb.DISMISS, task):
        found.append(Verb.DISMISS)
    return (*found, Verb.MESSAGE, Verb.RATE, muting)


def answers(row: ApprovalRow, task: Task | None, now: datetime) -> tuple[Verb, ...]:
    """Return the verbs that can decide a question now; none where it can no longer be decided."""
    closed = (InterventionState.VOID, InterventionState.WITHDRAWN, InterventionState.ENDED)
    is_closed = row.state in closed or row.is_decided
    if is_closed or is_over(row, now) or _is_over_for(row, task):
        return ()
    if not is_whole(row):
        return (Verb.DENY,)
    return (Verb.CHOOSE,) if row.options else (Verb.APPROVE, Verb.DENY)


def words_of(row: ApprovalRow) -> tuple[str, ...]:
    """Return the words that answer a question."""
    return row.options or (str(Verb.APPROVE), str(Verb.DENY))


def option_of(row: ApprovalRow, word: str) -> str:
    """Return the option that a word names, as the agent wrote it or as a person reads it; any other word as it is."""
    read = shown(row).options
    return row.options[read.index(word)] if word not in row.options and word in read else word


def verb_of(row: ApprovalRow, word: str) -> Verb | None:
    """Return the verb by which a word answers a question; None where it is no answer.

    A question that cannot be read whole can always be denied.
    """
    if word in row.options:
        return Verb.CHOOSE
    if word == Verb.DENY and not is_whole(row):
        return Verb.DENY
    return Verb(word) if not row.options and word in (Verb.APPROVE, Verb.DENY) else None


def decision_of(act: Intervention) -> str:
    """Return a decision in the agent's words: the chosen option, or approve or deny. Of a rating: that rating.

    Empty for any other act.
    """
    if act.verb.is_decision and act.verb is not Verb.CHOOSE:
        return str(act.verb)
    return act.option


def scopes(row: ApprovalRow, task: Task | None) -> tuple[Scope, ...]:
    """Return how far an approval of this question may go."""
    if not row.tool or row.options or row.needs > 1 or task is None:
        return (Scope.ONCE,)
    if not task.agent_name or not (task.repo or (task.service and not task.service.startswith(_UNNAMED))):
        return (Scope.ONCE, Scope.TASK)  # of an unnamed agent, or anywhere, would be too far
    return tuple(Scope)


def votes_with(row: ApprovalRow, act: Intervention, now: datetime) -> tuple[Vote, ...]:
    """Return the approvals of a question with that of an act."""
    actor = act.actor
    vote = Vote(decision=decision_of(act), by=name_of(actor), by_id=id_of(actor), email=actor.email, at=now)
    return with_vote(row.votes, vote)


def backing(row: ApprovalRow) -> int:
    """Return how many different people are behind a question's decision.

    A decision that a standing approval made has none: it counts for that question alone.
    """
    if row.source == RULE:
        return 0
    return max(1, sum(vote.decision == row.decision for vote in row.votes))


def taken(row: ApprovalRow, act: Intervention, now: datetime) -> ApprovalRow:
    """Return the row of a question after a decision."""
    return msgspec.structs.replace(
        row,
        state=InterventionState.DECIDED,
        decision=decision_of(act),
        by=name_of(act.actor),
        by_id=id_of(act.actor),
        comment=act.text,
        source=act.source or act.actor.provider,
        decided_at=now,
        rule=str(act.rule or ""),
        votes=votes_with(row, act, now) if row.needs > 1 and decision_of(act) != Verb.DENY else row.votes,
        reported_decision=None,
    )


def name_of(actor: Actor) -> str:
    """Return a person's name for people."""
    return actor.name or actor.id


def id_of(actor: Actor) -> str:
    """Return a person's identity for programs: provider, team and id."""
    return ":".join(part for part in (actor.provider, actor.team, actor.id) if part)


# --- as observations ------------------------------------------------------------------------------------------------


def decided(row: ApprovalRow, at: datetime, *, again: datetime | None = None) -> Observation:
    """Return the record of a decision, on the span that asked.

    `again` is when that span asked a question that was decided before: it makes the record of each asking
    its own.
    """
    attributes: dict[str, Any] = {
        c.APPROVAL_DECISION: row.decision,
        c.APPROVAL_BY: row.by,
        c.APPROVAL_COMMENT: row.comment,
    }
    attributes[c.INTERVENTION_SOURCE] = row.source
    attributes[c.INTERVENTION_RULE] = row.rule
    if again is not None:
        attributes[c.INTERVENTION_AGAIN] = nanoseconds(again)
    if row.state is InterventionState.EXPIRED:
        return of_approval(c.EVENT_APPROVAL_RESOLVED, row, at, attributes | {c.INTERVENTION_EXPIRED: True})
    return of_approval(c.EVENT_APPROVAL_RESOLVED, row, at, attributes)


def escalated(row: ApprovalRow, at: datetime) -> Observation:
    """Return the record that a question got no answer in time: it asks people once more."""
    return of_approval(
        c.EVENT_APPROVAL_ESCALATED, row, at, {c.APPROVAL_QUESTION: row.question, c.APPROVAL_DETAIL: row.detail}
    )


def counted(row: ApprovalRow, act: Intervention, at: datetime) -> Observation:
    """Return the record that a person approved a question that needs more people."""
    said = {
        c.APPROVAL_DECISION: decision_of(act),
        c.APPROVAL_BY: name_of(act.actor),
        c.INTERVENTION_BY_ID: id_of(act.actor),
        c.INTERVENTION_SOURCE: act.source,
    }
    return of_approval(c.EVENT_APPROVAL_COUNTED, row, at, said)


def awaiting(row: ApprovalRow, at: datetime) -> Observation:
    """Return the record that an agent waits for the answer."""
    return of_approval(c.EVENT_APPROVAL_AWAITED, row, at, {})


def of_approval(name: str, row: ApprovalRow, at: datetime, attributes: dict[str, Any]) -> Observation:
    """Return a record about a question, on the span that asked."""
    trace, _, span = row.span.partition("-")
    attributes = {c.APPROVAL_ID: row.approval_id, c.APPROVAL_DIGEST: row.mark} | attributes
    return _record(name, row.tenant, bytes.fromhex(trace), bytes.fromhex(span), at, attributes)


def done(act: Intervention, task: Task, at: datetime) -> Observation:
    """Return the record of an act on a task, on its root span."""
    attributes: dict[str, Any] = {
        c.INTERVENTION_VERB: str(act.verb),
        c.INTERVENTION_BY: name_of(act.actor),
        c.INTERVENTION_TEXT: act.text,
        c.INTERVENTION_SOURCE: act.source,
    }
    if act.verb is Verb.DISMISS and task.loop is not None:
        attributes |= {c.INTERVENTION_FINDING: task.loop.id, c.INTERVENTION_COUNT: task.loop.count}
    if act.verb is Verb.RATE:
        attributes |= {c.INTERVENTION_RATING: act.option, c.INTERVENTION_BY_ID: id_of(act.actor)}
    if task.last_event_at is not None:
        attributes[c.INTERVENTION_SEEN] = nanoseconds(task.last_event_at)
    return _record(c.EVENT_INTERVENTION, task.tenant, task.trace_id, task.span_id, at, attributes, task_id=task.task_id)


def _record(
    name: str,
    tenant: str,
    trace_id: bytes,
    span_id: bytes,
    at: datetime,
    attributes: dict[str, Any],
    *,
    task_id: str = "",
) -> Observation:
    if not span_id and task_id:
        attributes = attributes | {
            c.TASK_ID: task_id
        }  # the task is known from log records outside any span: its id identifies it
    record = Observation(
        part=Part.INTERVENTION,
        trace_id=trace_id,
        span_id=span_id,
        tenant=tenant,
        name=name,
        at_ns=nanoseconds(at),
        attributes={key: value for key, value in attributes.items() if value != ""},
    )
    return msgspec.structs.replace(record, index=log_index(record))


# --- deadlines ------------------------------------------------------------------------------------------------------


def is_over(row: ApprovalRow, now: datetime) -> bool:
    """Return whether an open question is past its deadline, so that it will be marked as expired."""
    if row.expires_at is None or row.expires_at > now or row.at_expiry == "wait":
        return False
    return row.at_expiry != "escalate" or row.escalated_at is not None


def topics_of(task: Task) -> set[bytes]:
    """Return the topics on which agents wait for acts on a task: one for each of its ids."""
    return {topic_of(task.tenant, TASK, alias) for alias in (task.task_id, *task.aliases)}
