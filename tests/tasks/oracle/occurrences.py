"""Occurrences that become checkpoints, each once, whichever of its copies came first."""

from __future__ import annotations

import re
from typing import NamedTuple
from uuid import UUID

from spanpost import semconv as c
from spanpost.model.checkpoints import SAID, Checkpoint, Kind
from spanpost.model.messages import LocaleMessage
from spanpost.model.observations import Part
from spanpost.model.readings import EventReport, Role
from spanpost.text.locales import ENGLISH
from spanpost.text.secrets import unhashed
from tests.tasks.oracle.facts import TEXT
from tests.tasks.oracle.ids import named
from tests.tasks.oracle.notes import Note
from tests.tasks.oracle.placement import Run
from tests.tasks.oracle.questions import EPOCH, moment
from tests.tasks.oracle.tree import Span, Trace

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


class Occurrence(NamedTuple):
    """Something that happened, by its earliest copy."""

    id: UUID
    kind: Kind
    n: Note
    owner: Span

    @property
    def run(self) -> Run:
        assert self.owner.run is not None
        return self.owner.run

    @property
    def is_doubtful(self) -> bool:
        """True for an exception: it is a checkpoint only where its span turns out to lie in a task."""
        return self.n.o.name in c.EXCEPTION_EVENTS and not self.n.r.task_id


def occurrences(traces: list[Trace]) -> list[Occurrence]:
    """Return what happened in a history; a person's decision replaces the one that telemetry reported."""
    out = []
    for trace in traces:
        found: dict[UUID, Occurrence] = {}
        decided = set()
        # A failed model call around another that failed: the one within reports the failure.
        reported_below = {
            n.o.parent_id
            for span in trace.order
            for n in span.copies
            if _is_failed_call(n) and n.o.parent_id != n.o.span_id
        }
        for span in trace.order:
            for n in span.owner.notes if span.owns_subtree else ():
                kind = _kind(n, n.r.role if n.is_span else trace.spans[n.o.span_id].role)
                if kind is None or (_is_failed_call(n) and n.o.span_id in reported_below):
                    continue
                one = Occurrence(_id(n, kind), kind, n, span)
                if one.id not in found or _rank(one) < _rank(found[one.id]):
                    found[one.id] = one
                if kind is Kind.APPROVAL_RESOLVED and n.is_act and n.r.approval is not None:
                    decided.add(named(trace.tenant, "approval_told", n.r.approval.id, trace.id.hex()))
        out += [one for id, one in found.items() if id not in decided]
    return out


def _is_failed_call(n: Note) -> bool:
    """Return whether a note is the end of a model call that failed."""
    return n.is_span and n.is_end and n.r.role is Role.LLM and _kind(n, n.r.role) is Kind.ERROR


def _rank(one: Occurrence) -> tuple[int, int, bytes]:
    """Return what sorts first: of a failure the report that says most, else the earliest."""
    n, r = one.n, one.n.r
    says = 0
    if one.kind is Kind.ERROR and r.failure is not None:
        says = len((r.tool_name or r.model or "") + r.failure.type + r.failure.message)
    return -says, 0 if n.is_act else n.o.at_ns, n.key + n.o.trace_id + n.o.span_id


def _kind(n: Note, role: Role) -> Kind | None:
    """Return the kind of checkpoint of a note. The end of a call, a step or a root span reports its exception."""
    if n.r.reports:
        is_reported_by_end = (
            n.r.reports is EventReport.ERROR and n.o.name in c.EXCEPTION_EVENTS and role is not Role.OTHER
        )
        return None if is_reported_by_end else _KINDS[n.r.reports]
    has_failed = n.r.failure is not None and not n.r.is_interrupt and n.is_end
    return Kind.ERROR if has_failed and role in (Role.TOOL, Role.LLM) else None


def _id(n: Note, kind: Kind) -> UUID:
    """Return the identity of an occurrence: the same in its live form, as a log record and in its final form."""
    o, r = n.o, n.r
    trace, span, a = o.trace_id.hex(), o.span_id.hex(), r.approval
    if kind is Kind.APPROVAL_REQUESTED and a is not None:
        word = "approval_escalated" if o.name == c.EVENT_APPROVAL_ESCALATED else "approval_requested"
        return named(o.tenant, word, a.id, a.mark, trace)
    if kind is Kind.APPROVAL_RESOLVED and a is not None:
        return (
            named(o.tenant, "approval_decided", a.id, a.mark, trace)
            if n.is_act
            else named(o.tenant, "approval_told", a.id, trace)
        )
    if kind is Kind.ARTIFACT and r.artifact is not None:
        return named(o.tenant, trace, kind, unhashed(r.artifact.key))
    if r.occurrence.startswith("call\0"):
        return named(o.tenant, kind, r.occurrence)
    if r.occurrence:
        return named(o.tenant, trace, span, kind, r.occurrence)
    if n.is_end:
        return named(o.tenant, trace, span, kind, "ended")
    return named(o.tenant, trace, span, o.name, o.at_ns, o.ordinal)


def written(said: LocaleMessage | None) -> str:
    """Return a reader's own sentence in English; empty without one."""
    return ENGLISH.tell(said) if said is not None else ""


def checkpoint(one: Occurrence, task_uid: UUID) -> Checkpoint:
    """Return the checkpoint of an occurrence."""
    o, r, a = one.n.o, one.n.r, one.n.r.approval
    status, text, detail, ref = c.WORKING, "", "", ""
    if one.kind is Kind.CHECKPOINT:
        status, text = (
            r.status or c.WORKING,
            written(r.locale_message) or r.message or r.action or r.step_name or o.name,
        )
        ref = r.act.verb if r.act is not None else ""
    elif one.kind is Kind.ARTIFACT and r.artifact is not None:
        text, ref = r.artifact.name, r.artifact.uri
    elif one.kind is Kind.ERROR and r.failure is not None:
        what = (r.tool_name or r.model or "") if o.part is Part.ENDED else ""
        words = failure_words(r.failure.type, r.failure.message)
        text = (f"{what}: {words}" if what else words) if words else f"{what} failed".strip()
        detail, ref = r.failure.log_tail, r.failure.type
    elif one.kind is Kind.COMPACTION:
        text, ref = written(r.locale_message) or r.message or _compacted(*(r.compaction or (None, None))), SAID
    elif one.kind is Kind.BUDGET_WARNING:
        text = written(r.locale_message) or "A budget is nearly spent"
        ref = f"{o.attributes.get(c.BUDGET_NAME)} {o.attributes.get(c.BUDGET_LEVEL)}"
    elif one.kind is Kind.ALERT:
        status = c.COMPLETE if o.attributes.get(c.ALERT_STATE) == c.RESOLVED else c.WAITING
        text, detail = r.message or o.name, str(o.attributes.get(c.ALERT_DESCRIPTION) or "")
        ref = str(o.attributes.get(c.ALERT_ID) or "")
    elif a is not None:
        ref = a.id
        if o.name == c.EVENT_APPROVAL_ESCALATED:
            status, text, detail = c.WAITING, f"Not answered yet: {a.question or 'A decision is needed'}", a.detail
        elif one.kind is Kind.APPROVAL_REQUESTED:
            status, text, detail = c.WAITING, a.question or "A decision is needed", a.detail
        elif a.is_expired:
            text = "Not decided in time" + (f": {a.decision}" if a.decision not in ("", c.EXPIRED) else "")
        else:
            text = (
                (a.decision or "resolved") + (f" by {a.by}" if a.by else "") + (f": {a.comment}" if a.comment else "")
            )
    return Checkpoint(
        id=one.id,
        tenant=o.tenant,
        task_uid=task_uid,
        kind=one.kind,
        status=status,
        text=text[:TEXT],
        at=moment(o.at_ns) or EPOCH,
        trace_id=o.trace_id,
        span_id=o.span_id,
        subtree=one.owner.id,
        progress=r.progress,
        detail=detail,
        ref=ref[:TEXT],
    )


def failure_words(type: str, message: str) -> str:
    """Return a failure's words: the class without its module, once."""
    last = type.split(".")[-1] if re.fullmatch(r"[\w$<>.-]+", type) else type
    name = last if last[:1].isupper() or type.startswith("__main__.") else type
    for known in (type, name):
        quoted = re.fullmatch(re.escape(known) + r"""\((['"])(.*)\1\)""", message, re.DOTALL)
        if known and message == known:
            return name
        if known and (quoted or message.startswith(known + ": ")):
            message = quoted[2] if quoted else message[len(known) + 2 :]
            break
    if name and message.startswith(name):
        return message
    return ": ".join(word for word in (name, message) if word)


def _compacted(before: int | None, after: int | None) -> str:
    texts = {
        (True, True): f"Context compacted: {before or 0:,} → {after or 0:,} tokens",
        (True, False): f"Context compacted: from {before or 0:,} tokens",
        (False, True): f"Context compacted: to {after or 0:,} tokens",
        (False, False): "Context compacted",
    }
    return texts[before is not None, after is not None]
