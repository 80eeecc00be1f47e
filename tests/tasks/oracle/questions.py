"""Questions to people, and their answers.

A question is known by its id, the mark of its words and the trace that asked. Of one id the newest wording of a
trace stands.
What spanpost recorded itself decides; a decision that the trace reports counts where spanpost itself was not asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from spanpost import semconv as c
from spanpost.model.readings import Approval, ReportedDecision
from tests.tasks.oracle.facts import ENTRIES, TEXT, Facts, Said
from tests.tasks.oracle.ids import named
from tests.tasks.oracle.notes import Note

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Id, mark, trace (hex).
Question = tuple[str, str, str]


def moment(ns: int) -> datetime | None:
    """Return a time of a sender's clock; None for what no calendar holds."""
    try:
        return EPOCH + timedelta(microseconds=ns // 1000) if ns > 0 else None
    except OverflowError:
        return None


def questions(facts: Facts, tenant: str) -> tuple[Approval, ...]:
    """Return the questions of a task in the order of asking; before them the answers to unknown questions."""
    telemetry = [p.n for p in facts.reported if p.n.r.approval is not None]
    asks = _greatest(((_rank(n), n.at, n.key), n) for n in telemetry if not _approval(n).decision)
    claimed = _greatest(((0, -n.at, n.key), n) for n in telemetry if _approval(n).decision)
    acts = [n for n in facts.acts if n.r.approval is not None]
    answers = _greatest(((0, -n.at, n.key), n) for n in acts if n.o.name == c.EVENT_APPROVAL_RESOLVED)
    escalated = _greatest(((0, -n.at, n.key), n) for n in acts if n.o.name == c.EVENT_APPROVAL_ESCALATED)
    awaited = {_question(n) for n in acts if n.o.name not in (c.EVENT_APPROVAL_RESOLVED, c.EVENT_APPROVAL_ESCALATED)}
    asks = dict(sorted(asks.items(), key=lambda item: (item[1][0], "\0".join(item[0])), reverse=True)[:ENTRIES])
    standing = _standing(asks)
    out = []
    for which, (rank, ask) in sorted(asks.items(), key=lambda item: (item[1][0].at, "\0".join(item[0]))):
        id, mark, trace = which
        a = _approval(ask)
        is_asked = rank.priority >= 2 or which in awaited
        decision = answers[which][1] if which in answers else None
        said = _claimed_decision(claimed, which)
        if decision is None and not is_asked:
            decision, said = said, None
        shown = said if decision is None else None
        d = _approval(decision) if decision is not None else Approval(id=id)
        more = escalated[which][1] if which in escalated else None
        out.append(
            Approval(
                id=id,
                question=a.question,
                detail=a.detail,
                options=tuple(a.options),
                risk=a.risk,
                expires_at=a.expires_at,
                decision=d.decision,
                by=d.by,
                comment=d.comment,
                at_expiry=a.at_expiry or "expire",
                mark=mark,
                is_asked=is_asked,
                is_cut=a.is_cut,
                is_altered=a.is_altered,
                has_id=a.has_id,
                source=d.source if decision is not None and decision.is_act else "",
                is_expired=d.is_expired,
                reported_decision=ReportedDecision(
                    decision=_approval(shown).decision,
                    by=_approval(shown).by,
                    comment=_approval(shown).comment,
                    at=moment(shown.at),
                )
                if shown is not None
                else None,
                key=named(tenant, "approval", *which) if a.has_id else None,
                reported_by=named(tenant, "approval_requested", *which),
                escalated_by=named(tenant, "approval_escalated", *which) if more is not None else None,
                is_void=which not in standing and not d.decision,
                asked_at=moment(ask.at),
                deadline=_deadline(a.expires_at),
                decided_at=moment(decision.at) if decision is not None else None,
                escalated_at=moment(more.at) if more is not None else None,
                span=f"{trace}-{ask.o.span_id.hex()}",
            )
        )
    return (*_unasked({a.id for a in out}, claimed, answers), *out)


def is_waiting(facts: Facts) -> bool:
    """Return whether a question is open."""
    return facts.has_questions and any(a.is_open and a.asked_at is not None for a in questions(facts, ""))


def open_since(facts: Facts) -> list[datetime]:
    """Return when each open question was asked."""
    found = questions(facts, "") if facts.has_questions else ()
    return [a.asked_at for a in found if a.is_open and a.asked_at is not None]


def _approval(n: Note) -> Approval:
    assert n.r.approval is not None
    return n.r.approval


def _question(n: Note) -> Question:
    id, mark, trace = (
        part[:TEXT].replace("\0", "") for part in (_approval(n).id, _approval(n).mark, n.o.trace_id.hex())
    )
    return id, mark, trace


def _rank(n: Note) -> int:
    """Return how a wording ranks among equals: those by which spanpost is asked first, then those that came whole."""
    return 2 * _approval(n).is_asked + (not _approval(n).is_cut)


def _greatest(found: Iterable[tuple[tuple[int, int, bytes], Note]]) -> dict[Question, tuple[Said, Note]]:
    by: dict[Question, list[tuple[Said, Note]]] = defaultdict(list)
    for rank, n in found:
        by[_question(n)].append((Said(*rank), n))
    return {which: max(said, key=lambda s: s[0][:3]) for which, said in by.items()}


def _standing(asks: dict[Question, tuple[Said, Note]]) -> set[Question]:
    """Return the newest wording of each id in each trace; one that was altered on its way stands before no other."""
    newest: dict[tuple[str, ...], tuple[bool, int, str, Question]] = {}
    for which, (rank, n) in asks.items():
        of = (which[0], which[2]) if which[2] else (which[0], "", which[1])
        newest[of] = max(
            newest.get(of, (False, 0, "", which)), (not _approval(n).is_altered, rank.at, "\0".join(which), which)
        )
    return {which for *_, which in newest.values()}


def _claimed_decision(claimed: dict[Question, tuple[Said, Note]], which: Question) -> Note | None:
    """Return the first decision that the asking trace reports, on this wording or on every wording."""
    id, mark, trace = which
    found = [claimed[q] for q in {(id, mark, trace), (id, "", trace)} if trace and q in claimed]
    return max(found, key=lambda s: s[0][:3])[1] if found else None


def _unasked(
    asked: set[str], claimed: dict[Question, tuple[Said, Note]], answers: dict[Question, tuple[Said, Note]]
) -> list[Approval]:
    found: dict[str, Approval] = {}
    for kind in (claimed, answers):
        for which, (_, n) in sorted(kind.items(), key=lambda item: "\0".join(item[0])):
            if which[0] not in asked:
                a = _approval(n)
                found[which[0]] = Approval(
                    id=which[0],
                    decision=a.decision,
                    by=a.by,
                    comment=a.comment,
                    source=a.source if n.is_act else "",
                    decided_at=moment(n.at),
                )
    return [found[id] for id in sorted(found)]


def _deadline(said: str) -> datetime | None:
    """Return a time as agents write it: Unix seconds, or RFC 3339."""
    try:
        at = EPOCH + timedelta(seconds=float(said.strip()))
    except (ValueError, OverflowError):
        try:
            at = datetime.fromisoformat(said.strip())
        except ValueError:
            return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return at if 2000 <= at.year < 2200 else None
