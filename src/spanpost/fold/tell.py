"""What is told: one checkpoint per occurrence, with an id that any order and any repetition finds again.

An id is made of the occurrence alone (tenant, trace, span, what happened), not of the task: a span's task may be learned
later, and news that was posted must keep its name.
"""

from __future__ import annotations

from uuid import UUID

from spanpost import conventions as c
from spanpost.domain.checkpoints import SAID, Checkpoint, Kind
from spanpost.domain.observations import Observation, Part
from spanpost.domain.readings import Reading, Role, Tells
from spanpost.fold.approvals import answered_id, decided_id, escalated_id, told_id
from spanpost.fold.facts import TEXT_CAP
from spanpost.fold.ids import named, uuid_of
from spanpost.fold.moments import EPOCH, duration, moment
from spanpost.fold.tasks import Verdict
from spanpost.text.secrets import unhashed

#: Bound once: an enum's members are looked up slowly.
_NOTHING, _ERROR = Tells.NOTHING, Tells.ERROR
_OTHER, _LLM, _TOOL = Role.OTHER, Role.LLM, Role.TOOL
_ENDED = Part.ENDED

_KINDS = {
    Tells.CHECKPOINT: Kind.CHECKPOINT,
    Tells.ARTIFACT: Kind.ARTIFACT,
    Tells.ERROR: Kind.ERROR,
    Tells.APPROVAL_REQUESTED: Kind.APPROVAL_REQUESTED,
    Tells.APPROVAL_RESOLVED: Kind.APPROVAL_RESOLVED,
    Tells.COMPACTION: Kind.COMPACTION,
    Tells.BUDGET: Kind.BUDGET_WARNING,
    Tells.ALERT: Kind.ALERT,
}


def occurrence_id(o: Observation, r: Reading, kind: Kind) -> UUID:
    """Return the id of what happened, equal in its live form, its log form and its final form."""
    trace, span = o.trace_id.hex(), o.span_id.hex()
    if kind is Kind.APPROVAL_REQUESTED and r.approval is not None:
        id_of = escalated_id if o.name == c.EVENT_APPROVAL_ESCALATED else told_id
        return id_of(o.tenant, r.approval.id, r.approval.mark, trace)
    if kind is Kind.APPROVAL_RESOLVED and r.approval is not None:
        if o.part is Part.INTERVENTION:
            return decided_id(o.tenant, r.approval.id, r.approval.mark, trace)
        return answered_id(o.tenant, r.approval.id, trace)
    if kind is Kind.ARTIFACT and r.artifact is not None:
        what = f"{trace}\0{kind}\0{unhashed(r.artifact.key)}"
    elif r.occurrence.startswith("call\0"):  # a call's own id: whichever of its spans and records tells it
        what = f"{kind}\0{r.occurrence}"
    elif r.occurrence:
        what = f"{trace}\0{span}\0{kind}\0{r.occurrence}"
    elif o.part is Part.ENDED:
        what = f"{trace}\0{span}\0{kind}\0ended"
    else:
        what = f"{trace}\0{span}\0{o.name}\0{o.at_ns}\0{o.ordinal}"
    return uuid_of(named(f"{o.tenant}\0{what}"))


def telling(o: Observation, r: Reading, role: Role) -> Kind | None:
    """Return what kind of news the observation is, if any.

    A failed call is told by its span's end, where its name is known; an exception event is told on spans that are no call,
    no step and no box, because there it would be the same failure on its way up.
    """
    tells = r.tells
    if tells is not _NOTHING:
        if tells is _ERROR and o.name == c.EVENT_EXCEPTION and role is not _OTHER:
            return None
        return _KINDS[tells]
    if r.failure is not None and (role is _TOOL or role is _LLM) and o.part is _ENDED and not r.is_interrupt:
        return Kind.ERROR
    return None


def possible_telling(o: Observation, r: Reading) -> Kind | None:
    """Return the kind of news that the observation may be, whatever its span turns out to be."""
    return _KINDS[r.tells] if r.tells is not _NOTHING else telling(o, r, r.role)


def told(o: Observation, r: Reading, kind: Kind, id: UUID, task_uid: UUID, unit: bytes) -> Checkpoint:
    """Return the checkpoint of an occurrence."""
    status, text, detail, ref = c.WORKING, "", "", ""
    if kind is Kind.CHECKPOINT:
        status = r.status or c.WORKING
        text = r.message or r.action or r.step_name or o.name
        ref = r.act.verb if r.act is not None else ""
    elif kind is Kind.ARTIFACT and r.artifact is not None:
        text, ref = r.artifact.name, r.artifact.uri
    elif kind is Kind.ERROR and r.failure is not None:
        what = r.tool_name or r.model if o.part is Part.ENDED else ""
        words = [part for part in (r.failure.type, r.failure.message) if part]
        text = ": ".join([what, *words] if what and words else words) or f"{what or ''} failed".strip()
        detail, ref = r.failure.log_tail, r.failure.type
    elif kind is Kind.BUDGET_WARNING:
        text = r.message or "A budget is nearly spent"
        ref = f"{o.attributes.get(c.BUDGET_NAME)} {o.attributes.get(c.BUDGET_LEVEL)}"
    elif kind is Kind.ALERT:
        status = c.COMPLETE if o.attributes.get(c.ALERT_STATE) == c.RESOLVED else c.WAITING
        text, detail = r.message or o.name, str(o.attributes.get(c.ALERT_DESCRIPTION) or "")
        ref = str(o.attributes.get(c.ALERT_ID) or "")
    elif kind is Kind.COMPACTION:
        text, ref = r.message or compaction_text(*(r.compaction or (None, None))), SAID
    elif r.approval is not None:
        a = r.approval
        ref = a.id
        if o.name == c.EVENT_APPROVAL_ESCALATED:
            status, text, detail = c.WAITING, f"Nobody has answered: {a.question or 'a decision is needed'}", a.detail
        elif kind is Kind.APPROVAL_REQUESTED:
            status, text, detail = c.WAITING, a.question or "A decision is needed", a.detail
        elif a.is_expired:
            text = "Nobody decided in time" + (f": {a.decision}" if a.decision not in ("", c.EXPIRED) else "")
        else:
            text = f"{a.decision or 'resolved'}{f' by {a.by}' if a.by else ''}{f': {a.comment}' if a.comment else ''}"
    return Checkpoint(
        id=id,
        tenant=o.tenant,
        task_uid=task_uid,
        kind=kind,
        status=status,
        text=text[:TEXT_CAP],
        at=moment(o.at_ns) or EPOCH,
        trace_id=o.trace_id,
        span_id=o.span_id,
        unit=unit,
        progress=r.progress,
        detail=detail,
        ref=ref[:TEXT_CAP],
    )


def end_text(verdict: Verdict, name: str, started_ns: int) -> str:
    """Return the line that tells how a segment ended."""
    if verdict.status == c.ERROR:
        failure = verdict.failure or ("", "", "")
        kind, message = failure[:2]
        why = message if kind and message.startswith(kind) else ": ".join(part for part in (kind, message) if part)
        return f"Failed: {why}"[:TEXT_CAP] if why else "Failed"
    if verdict.status == c.WAITING:
        return "Waiting for its next prompt" if verdict.rule.startswith("session") else "Waiting for a person"
    word = {c.COMPLETE: "Complete", c.CANCELLED: "Cancelled"}.get(verdict.status, verdict.status.capitalize())
    seconds = (verdict.ended_ns - started_ns) / 1e9 if started_ns and verdict.ended_ns > started_ns else 0
    return f"{word} in {duration(seconds)}" if seconds else word


def compaction_text(before: int | None, after: int | None) -> str:
    """Return the line that tells of a compaction."""
    if before is not None and after is not None:
        return f"Context compacted: {before:,} → {after:,} tokens"
    if before is not None or after is not None:
        return f"Context compacted: {f'from {before:,}' if before is not None else f'to {after:,}'} tokens"
    return "Context compacted"
