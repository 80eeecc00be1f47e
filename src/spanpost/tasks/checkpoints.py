"""Checkpoints: one per occurrence, with an id that any order and any repetition finds again.

An id is made of the occurrence alone (tenant, trace, span, what happened), not of the task: a span's task may
become known later, and a checkpoint that was posted must keep its id.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import NamedTuple
from uuid import UUID

from spanpost import semconv as c
from spanpost.model.checkpoints import SAID, Checkpoint, Kind
from spanpost.model.ids import named, uuid_of
from spanpost.model.messages import LocaleMessage
from spanpost.model.observations import Observation, Part
from spanpost.model.readings import Approval, EventReport, Reading, Role
from spanpost.model.tasks import waits_for_person
from spanpost.tasks import failures
from spanpost.tasks.amounts import ZERO, Amounts, dollars
from spanpost.tasks.approvals import answered_id, counted_id, decided_id, escalated_id, passed_on_id, requested_id
from spanpost.tasks.end_reasons import REASONS
from spanpost.tasks.status import TaskVerdict
from spanpost.tasks.times import EPOCH, moment
from spanpost.tasks.work import Key
from spanpost.text import figures
from spanpost.text.secrets import unhashed
from spanpost.text.wording import TEXT_CAP, message, worded

#: Bound once: the members of an enum are slow to look up.
_NOTHING, _ERROR = EventReport.NOTHING, EventReport.ERROR
_OTHER, _LLM, _TOOL = Role.OTHER, Role.LLM, Role.TOOL
_ENDED = Part.ENDED

_KINDS = {
    EventReport.CHECKPOINT: Kind.CHECKPOINT,
    EventReport.ARTIFACT: Kind.ARTIFACT,
    EventReport.ERROR: Kind.ERROR,
    EventReport.APPROVAL_REQUESTED: Kind.APPROVAL_REQUESTED,
    EventReport.APPROVAL_RESOLVED: Kind.APPROVAL_RESOLVED,
    EventReport.COMPACTION: Kind.COMPACTION,
    EventReport.BUDGET: Kind.BUDGET_WARNING,
    EventReport.ALERT: Kind.ALERT,
}


class TaskCheckpoint(NamedTuple):
    """A checkpoint and the key of its task."""

    checkpoint: Checkpoint
    key: Key
    #: It was reported before, in other words: its row changes, and nothing is delivered again.
    is_reworded: bool = False


def occurrence_id(o: Observation, r: Reading, kind: Kind) -> UUID:
    """Return the id of an occurrence, equal in its live form, its log form and its final form."""
    trace, span = o.trace_id.hex(), o.span_id.hex()
    if kind is Kind.APPROVAL_REQUESTED and r.approval is not None:
        if o.name == c.EVENT_APPROVAL_PASSED_ON:
            place = str(o.attributes.get(c.APPROVAL_TO))
            return passed_on_id(o.tenant, r.approval.id, r.approval.mark, trace, place)
        id_of = escalated_id if o.name == c.EVENT_APPROVAL_ESCALATED else requested_id
        return id_of(o.tenant, r.approval.id, r.approval.mark, trace)
    if kind is Kind.APPROVAL_RESOLVED and r.approval is not None:
        if o.name == c.EVENT_APPROVAL_COUNTED:
            person = str(o.attributes.get(c.INTERVENTION_BY_ID))
            return counted_id(o.tenant, r.approval.id, r.approval.mark, trace, person)
        if o.part is Part.INTERVENTION:
            return decided_id(o.tenant, r.approval.id, r.approval.mark, trace)
        return answered_id(o.tenant, r.approval.id, trace)
    if kind is Kind.ARTIFACT and r.artifact is not None:
        what = f"{trace}\0{kind}\0{unhashed(r.artifact.key)}"
    elif r.occurrence.startswith("call\0"):  # a call's own id: the same in each of its spans and records
        what = f"{kind}\0{r.occurrence}"
    elif r.occurrence:
        what = f"{trace}\0{span}\0{kind}\0{r.occurrence}"
    elif o.part is Part.ENDED:
        return end_id(o, o.span_id, kind)
    else:
        what = f"{trace}\0{span}\0{o.name}\0{o.at_ns}\0{o.ordinal}"
    return uuid_of(named(f"{o.tenant}\0{what}"))


def end_id(o: Observation, span_id: bytes, kind: Kind) -> UUID:
    """Return the id of what the end of a span of the observation's trace reports."""
    return uuid_of(named(f"{o.tenant}\0{o.trace_id.hex()}\0{span_id.hex()}\0{kind}\0ended"))


def kind_of(o: Observation, r: Reading, role: Role) -> Kind | None:
    """Return the kind of checkpoint that the observation is; None when it is none.

    The end of a call's span reports that the call failed: there its name is known. An exception event counts
    only on spans that are no call, no step and no root span, because there it would be the same failure on
    its way up.
    """
    report = r.reports
    if report is not _NOTHING:
        if report is _ERROR and o.name in c.EXCEPTION_EVENTS and role is not _OTHER:
            return None
        return _KINDS[report]
    if r.failure is not None and (role is _TOOL or role is _LLM) and o.part is _ENDED and not r.is_interrupt:
        return Kind.ERROR
    return None


def possible_kind(o: Observation, r: Reading) -> Kind | None:
    """Return the kind of checkpoint that the observation may be, whatever role its span turns out to have."""
    return _KINDS[r.reports] if r.reports is not _NOTHING else kind_of(o, r, r.role)


def checkpoint_of(o: Observation, r: Reading, kind: Kind, id: UUID, task_uid: UUID, subtree: bytes) -> Checkpoint:
    """Return the checkpoint of an occurrence."""
    status, detail, ref = c.WORKING, "", ""
    said: LocaleMessage | str = ""
    if kind is Kind.CHECKPOINT:
        status = r.status or c.WORKING
        said = r.locale_message or r.message or r.action or r.step_message or r.step_name or o.name
        ref = r.act.verb if r.act is not None else ""
    elif kind is Kind.ARTIFACT and r.artifact is not None:
        said, ref = r.artifact.name, r.artifact.uri
    elif kind is Kind.ERROR and r.failure is not None:
        what = r.tool_name or r.model if o.part is Part.ENDED else ""
        words = failures.said(r.failure.type, r.failure.message)
        failed = message("checkpoint.error_of", name=what) if what else message("checkpoint.error")
        said = ": ".join(filter(None, (what, words))) if words else failed
        detail, ref = r.failure.log_tail, r.failure.type
    elif kind is Kind.BUDGET_WARNING:
        said = r.locale_message or message("checkpoint.budget_unnamed")
        ref = f"{o.attributes.get(c.BUDGET_NAME)} {o.attributes.get(c.BUDGET_LEVEL)}"
    elif kind is Kind.ALERT:
        status = c.COMPLETE if o.attributes.get(c.ALERT_STATE) == c.RESOLVED else c.WAITING
        said, detail = r.message or o.name, str(o.attributes.get(c.ALERT_DESCRIPTION) or "")
        ref = str(o.attributes.get(c.ALERT_ID) or "")
    elif kind is Kind.COMPACTION:
        said, ref = r.locale_message or r.message or compaction(*(r.compaction or (None, None))), SAID
    elif r.approval is not None:
        a = r.approval
        ref = a.id
        if o.name in (c.EVENT_APPROVAL_ESCALATED, c.EVENT_APPROVAL_PASSED_ON):
            status, said, detail = c.WAITING, message("checkpoint.unanswered", question=_question(a)), a.detail
        elif kind is Kind.APPROVAL_REQUESTED:
            status, said, detail = c.WAITING, _question(a), a.detail
        elif o.name == c.EVENT_APPROVAL_COUNTED:
            status, said = c.WAITING, message("checkpoint.counted", by=a.by)
        else:
            said = _decision(a)
    text, locale_message = worded(said)
    return Checkpoint(
        id=id,
        tenant=o.tenant,
        task_uid=task_uid,
        kind=kind,
        status=status,
        text=text,
        message=locale_message,
        at=moment(o.at_ns) or EPOCH,
        trace_id=o.trace_id,
        span_id=o.span_id,
        subtree=subtree,
        progress=r.progress,
        detail=detail,
        ref=ref[:TEXT_CAP],
    )


def _question(asked: Approval) -> LocaleMessage | str:
    return asked.question or message("checkpoint.decision_needed")


def _decision(answer: Approval) -> LocaleMessage | str:
    if answer.is_withdrawn:
        return message("checkpoint.withdrawn")
    if answer.is_expired:
        is_plain = answer.decision in ("", c.EXPIRED)
        return message("checkpoint.expired") if is_plain else message("checkpoint.expired_as", decision=answer.decision)
    said: LocaleMessage | str = answer.decision or message("checkpoint.resolved")
    if answer.by:
        said = message("checkpoint.decided_by", decision=said, by=answer.by)
    return message("checkpoint.with_words", text=said, words=answer.comment) if answer.comment else said


def end(verdict: TaskVerdict, started_ns: int, used: Amounts = ZERO) -> LocaleMessage:
    """Return the text of a run's end, with what its calls used, where that is given."""
    if verdict.status == c.ERROR:
        kind, words, _ = verdict.failure or ("", "", "")
        reason: LocaleMessage | str = verdict.reason or failures.said(kind, words)
        if verdict.end_reason in REASONS:
            why = message(f"end.{verdict.end_reason}")
            return message("checkpoint.ended_because", end=why, reason=reason) if reason else why
        return message("checkpoint.failed_because", reason=reason) if reason else message("checkpoint.failed")
    if verdict.status == c.WAITING:
        is_asking = waits_for_person(verdict.status, verdict.rule)
        return message("checkpoint.waiting_for_person" if is_asking else "checkpoint.waiting_for_prompt")
    seconds = (verdict.ended_ns - started_ns) / 1e9 if started_ns and verdict.ended_ns > started_ns else 0
    if verdict.status == c.CANCELLED:
        said = message("checkpoint.cancelled_in", time=seconds) if seconds else message("checkpoint.cancelled")
    else:
        said = message("checkpoint.complete_in", time=seconds) if seconds else message("checkpoint.complete")
    if verdict.end_reason in REASONS:
        said = message("checkpoint.beside", text=said, figure=message(f"end.{verdict.end_reason}"))
    return reduce(lambda text, figure: message("checkpoint.beside", text=text, figure=figure), _used(used), said)


def _used(used: Amounts) -> Iterator[LocaleMessage | str]:
    """Yield what calls used, as far as it is known: tokens and cost."""
    if used.input_calls:
        yield message("figure.tokens_in", tokens=figures.count(used.input))
    if used.output_calls:
        yield message("figure.tokens_out", tokens=figures.count(used.output))
    if used.cost_calls:
        cost, unpriced = figures.money(dollars(used.cost)), used.calls - used.cost_calls
        yield message("figure.unpriced", cost=cost, n=unpriced) if unpriced > 0 else cost


def compaction(before: int | None, after: int | None) -> LocaleMessage:
    """Return the text of a compaction, with its tokens as far as they are known."""
    if before is not None and after is not None:
        return message("checkpoint.compacted_from_to", before=before, after=after)
    if before is not None:
        return message("checkpoint.compacted_from", before=before)
    return message("checkpoint.compacted_to", after=after) if after is not None else message("checkpoint.compacted")
