"""Questions to people, as facts: the question's wording, its answers, and which of them counts.

Rules. A question is known by its id, by the *mark* of its words and by the trace that asked it. The same id
in other words is another question: of one id the newest wording of a trace stands, and its others are void.
A question that another trace asks under the same id is separate, and voids nothing. A decision is what
spanpost recorded itself (`Part.INTERVENTION`): an act of a person through it, or a deadline. The first
stands. A decision that telemetry reports counts where spanpost itself was not asked, and only in the trace
that asked; where spanpost was asked, it is shown beside the question and decides nothing.

Theory. All are facts by rank (`facts`), in maps that either spanpost fills or telemetry does, so any order
gives the same result and no sender can push out a person's answer. The newest questions are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from spanpost import semconv as c
from spanpost.model.ids import named, uuid_of
from spanpost.model.interventions import ApprovalRow
from spanpost.model.observations import Observation, Part
from spanpost.model.readings import Approval, Reading, ReportedDecision
from spanpost.tasks.approval_rules import ApprovalRules
from spanpost.tasks.fact_values import KeptAnswer, KeptVote, QuestionFact
from spanpost.tasks.facts import Fact, Facts
from spanpost.tasks.times import EPOCH, moment
from spanpost.text.wording import TEXT_CAP

#: Maps of facts, by question (`_entry`). `CLAIMED` holds telemetry's answers, under an empty mark where they
#: have none.
ASKS, ANSWERS, ESCALATIONS, AWAITED, CLAIMED = "asks", "answers", "escalations", "awaited", "claimed_answers"
#: Longest time from a question to the report of its settlement, nanoseconds.
REPORTED_WITHIN_NS = 24 * 3600 * 10**9
#: Names of one tool, in hooks and in telemetry.
_SHELLS = frozenset({"Bash", "exec_command", "shell", "shell_command"})
#: People's approvals of questions that need several, by question and person.
VOTES = "votes"
#: Places after the first that were asked, by question and place.
PASSED_ON = "passed_on"
#: Kinds of topics.
APPROVAL, TASK = "approval", "task"
#: No plausible deadline lies outside.
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


_NO_ANSWER = KeptAnswer("", "", "", False)


def approval_of(row: ApprovalRow) -> Approval:
    """Return a kept question, in the words in which it was asked."""
    return Approval(
        id=row.approval_id,
        question=row.question,
        detail=row.detail,
        options=row.options,
        risk=row.risk,
        tool=row.tool,
        needs=row.needs,
        mark=row.mark,
        is_asked=row.is_asked,
        is_cut=row.is_cut,
        decision=row.decision,
        by=row.by,
        comment=row.comment,
        source=row.source,
        reported_decision=row.reported_decision,
        key=row.key,
    )


def approval_key(tenant: str, id: str, mark: str, trace: str) -> UUID:
    """Return the key that the question's buttons carry."""
    return _named(tenant, "approval", id, mark, trace)


def requested_id(tenant: str, id: str, mark: str, trace: str) -> UUID:
    """Return the id of the checkpoint of a question."""
    return _named(tenant, "approval_requested", id, mark, trace)


def escalated_id(tenant: str, id: str, mark: str, trace: str) -> UUID:
    """Return the id of the checkpoint that repeats a question without an answer."""
    return _named(tenant, "approval_escalated", id, mark, trace)


def decided_id(tenant: str, id: str, mark: str, trace: str) -> UUID:
    """Return the id of the checkpoint of a person's decision."""
    return _named(tenant, "approval_decided", id, mark, trace)


def counted_id(tenant: str, id: str, mark: str, trace: str, person: str) -> UUID:
    """Return the id of the checkpoint of a person's approval while more are needed."""
    return _named(tenant, "approval_counted", id, mark, trace, person)


def passed_on_id(tenant: str, id: str, mark: str, trace: str, place: str) -> UUID:
    """Return the id of the checkpoint of a question that the next place is asked."""
    return _named(tenant, "approval_passed_on", id, mark, trace, place)


def answered_id(tenant: str, id: str, trace: str) -> UUID:
    """Return the id of the checkpoint of a decision that telemetry reports."""
    return _named(tenant, "approval_told", id, trace)


def _named(tenant: str, *parts: str) -> UUID:
    return uuid_of(named("\0".join((tenant, *parts))))


def topic_of(tenant: str, kind: str, id: str) -> bytes:
    """Return the 16 bytes by which an approval (by its id) or a task (by an alias) is locked and awaited."""
    return blake2b(f"{tenant}\0{kind}\0{id}".encode("utf-8", "replace"), digest_size=16, person=b"topic").digest()


def trace_of_span(ref: str) -> str:
    """Return the trace of a task's id that is made of its trace and its root span, in hex; empty: it is no such id.

    Until its root span is known, a task is known by its trace.
    """
    trace, dash, span = ref.partition("-")
    return trace if dash and (len(trace), len(span)) == (32, 16) else ""


def deadline(text: str) -> datetime | None:
    """Return a deadline as agents write it: RFC 3339 (without a zone: UTC), or Unix seconds.

    None for anything else.
    """
    text = text.strip()
    try:
        at = EPOCH + timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return at if _EARLIEST < at < _LATEST else None


# --- facts ----------------------------------------------------------------------------------------------------------


def enter(facts: Facts, o: Observation, r: Reading, at: int, key: bytes) -> None:
    """Add a question, an answer, or spanpost's record of one to the facts."""
    a: Any = r.approval
    trace = o.trace_id.hex()
    entry = _entry(a.id, a.mark, trace)
    if o.part is Part.INTERVENTION:
        if o.name == c.EVENT_APPROVAL_RESOLVED:  # the first stands
            facts.enter(
                ANSWERS, entry, 0, -at, key, KeptAnswer(a.decision, a.by, a.comment, a.is_expired, a.source, a.rule)
            )
        elif o.name == c.EVENT_APPROVAL_ESCALATED:
            facts.enter(ESCALATIONS, entry, 0, -at, key, at)
        elif o.name == c.EVENT_APPROVAL_COUNTED:
            person = str(o.attributes.get(c.INTERVENTION_BY_ID) or a.by)
            facts.enter(VOTES, _part(entry, person), 0, -at, key, KeptVote(a.decision, a.by))
        elif o.name == c.EVENT_APPROVAL_PASSED_ON:
            facts.enter(PASSED_ON, _part(entry, str(o.attributes.get(c.APPROVAL_TO))), 0, -at, key, True)
        else:
            facts.enter(AWAITED, entry, 0, -at, key, True)
    elif a.decision:
        facts.enter(CLAIMED, entry, 0, -at, key, KeptAnswer(a.decision, a.by, a.comment, a.is_expired))
    else:
        # Of equal words, those stand by which spanpost itself is asked, and that arrived whole: a copy may
        # be cut on the way.
        rank = 2 * a.is_asked + (not a.is_cut)
        asked = QuestionFact(
            a.question,
            a.detail,
            tuple(a.options),
            a.risk,
            a.expires_at,
            a.at_expiry,
            a.has_id,
            a.is_cut,
            a.is_altered,
            f"{trace}-{o.span_id.hex()}",
            a.ask_after,
            a.tool,
            a.needs,
            tuple(a.to),
            a.to_after,
            a.resume,
        )
        facts.enter(ASKS, entry, rank, at, key, asked)


def is_waiting(facts: Facts) -> bool:
    """Return whether a question is open."""
    return bool(facts.asks) and any(a.is_open for a in approvals(facts, "", ApprovalRules()))


def open_since(facts: Facts) -> list[datetime]:
    """Return when each open question was asked."""
    if not facts.asks:
        return []
    return [a.asked_at for a in approvals(facts, "", ApprovalRules()) if a.is_open and a.asked_at is not None]


def ends_with(status: str, end_reason: str | None, *, is_asked: bool, may_resume: bool) -> bool:
    """Tell whether a question without an answer is closed by the end of its task.

    One that was asked of spanpost is not: the agent may come back for the decision made meanwhile, and telemetry alone
    reports the end. What was interrupted, or waits to be resumed, may go on.
    """
    if is_asked or end_reason == "interrupted" or may_resume:
        return False
    return status in (c.COMPLETE, c.CANCELLED, c.ERROR)


def ended(asked: tuple[Approval, ...], status: str, end_reason: str | None) -> tuple[Approval, ...]:
    """Return the questions of a task that ended: those that nothing waits for are closed."""
    return tuple(
        replace(a, is_ended=True)
        if a.is_open and ends_with(status, end_reason, is_asked=a.is_asked, may_resume=bool(a.resume))
        else a
        for a in asked
    )


def approvals(facts: Facts, tenant: str, expiry: ApprovalRules) -> tuple[Approval, ...]:
    """Return a task's questions in the order of asking, each wording of each trace by itself, with their answers."""
    asks = facts.asks
    standing = _standing(asks)
    out = []
    for entry, fact in sorted(asks.items(), key=lambda item: (item[1].at_ns, item[0])):
        id, mark, trace = entry.split("\0")
        ask, at = fact.value, fact.at_ns
        is_asked = fact.priority >= 2 or entry in facts.awaited
        answer, reported, escalated = (
            facts.answers.get(entry),
            _reported(facts, id, mark, trace),
            facts.escalations.get(entry),
        )
        reported_decision = None
        if reported is not None:
            said = reported.value
            reported_decision = ReportedDecision(
                decision=said.decision, by=said.by, comment=said.comment, at=moment(-reported.at_ns)
            )
            if answer is None and not is_asked:
                answer, reported_decision = reported, None
        given = answer.value if answer is not None else _NO_ANSWER
        is_withdrawn = given.source == c.WITHDRAWAL
        if is_withdrawn and reported_decision is None:
            reported_decision = _answered_there(facts, at, ask.tool)
        asked_at, until = moment(at), deadline(ask.expires_at)
        if until is None and expiry.expire_after is not None and asked_at is not None:
            until = asked_at + expiry.expire_after
        out.append(
            Approval(
                id=id,
                question=ask.question,
                detail=ask.detail,
                options=ask.options,
                risk=ask.risk,
                tool=ask.tool,
                needs=ask.needs,
                to=tuple(ask.to),
                to_after=ask.to_after,
                expires_at=ask.expires_at,
                decision=given.decision,
                by=given.by,
                comment=given.comment,
                at_expiry=ask.at_expiry or expiry.at_expiry,
                mark=mark,
                is_asked=is_asked,
                is_cut=ask.is_cut,
                is_altered=ask.is_altered,
                has_id=ask.has_id,
                ask_after=ask.ask_after,
                resume=tuple(ask.resume),
                source=given.source,
                rule=given.rule,
                approved_by=_approved_by(facts, id, mark, trace),
                passed_on=sum(_whole(one) == entry for one in facts.passed_on),
                is_expired=given.is_expired,
                # A person's decision replaces a reported one.
                reported_decision=reported_decision if answer is None or is_withdrawn else None,
                key=approval_key(tenant, id, mark, trace) if ask.has_id else None,
                reported_by=requested_id(tenant, id, mark, trace),
                escalated_by=escalated_id(tenant, id, mark, trace) if escalated is not None else None,
                is_void=entry not in standing and not given.decision,
                asked_at=asked_at,
                deadline=until,
                decided_at=moment(-answer.at_ns) if answer is not None else None,
                escalated_at=moment(escalated.value) if escalated is not None else None,
                span=ask.span,
            )
        )
    # Answers to questions that are not known.
    return (*_unasked(facts, {a.id for a in out}), *out)


def seconds_to_answer(facts: Facts, id: str, trace: str) -> float | None:
    """Return how long (s) the newest answered question of an id in a trace was open; None where there is none."""
    newest: tuple[int, float] | None = None
    for entry, ask in facts.asks.items():
        asked, mark, within = entry.split("\0")
        if (asked, within) != (id, trace):
            continue
        answer = facts.answers.get(entry) or _reported(facts, id, mark, trace)
        if answer is not None:  # the first stands: it is entered by its negative time
            newest = max(newest or (0, 0.0), (ask.at_ns, max(-answer.at_ns - ask.at_ns, 0) / 1e9))
    return newest[1] if newest is not None else None


def _entry(id: str, mark: str, trace: str) -> str:
    return "\0".join(part[:TEXT_CAP].replace("\0", "") for part in (id, mark, trace))


def _standing(asks: Mapping[str, Fact[QuestionFact]]) -> set[str]:
    """Return the questions that are not void: of an id the newest wording of each trace.

    One that was altered on its way replaces no other. Outside any trace no question replaces another: it is
    unknown who asked.
    """
    newest: dict[tuple[str, ...], tuple[bool, int, str]] = {}
    for entry, ask in asks.items():
        id, mark, trace = entry.split("\0")
        which = (id, trace) if trace else (id, trace, mark)
        newest[which] = max(newest.get(which, (False, 0, "")), (not ask.value.is_altered, ask.at_ns, entry))
    return {entry for _, _, entry in newest.values()}


def _reported(facts: Facts, id: str, mark: str, trace: str) -> Fact[KeptAnswer] | None:
    """Return the decision that the asking trace reports; the first stands.

    Outside any trace it is unknown who reports.
    """
    known = facts.claimed_answers if trace else {}
    reported = [fact for which in (mark, "") if (fact := known.get(_entry(id, which, trace))) is not None]
    return max(reported, key=lambda fact: fact.rank, default=None)


def _answered_there(facts: Facts, asked_ns: int, tool: str) -> ReportedDecision | None:
    """Return what telemetry reports first after a question that was withdrawn: it was settled where the agent runs.

    A coding CLI's decision on a call has the call's id and the tool's name; the question has no such id.
    """
    names = {tool, *(_SHELLS if tool in _SHELLS else ())}
    asked = {entry.split("\0")[0] for entry in facts.asks}
    later = [
        (-fact.at_ns, entry, fact.value)
        for entry, fact in facts.claimed_answers.items()
        if asked_ns <= -fact.at_ns <= asked_ns + REPORTED_WITHIN_NS
        and entry.split("\0")[0] not in asked
        and (not tool or fact.value.comment in names)
    ]
    if not later:
        return None
    at_ns, _, said = min(later, key=lambda found: found[:2])
    return ReportedDecision(decision=said.decision, by=said.by, comment=said.comment, at=moment(at_ns))


def _approved_by(facts: Facts, id: str, mark: str, trace: str) -> tuple[str, ...]:
    """Return the names of the people who approved a question that needs several, the first first."""
    votes = sorted(facts.votes.items(), key=lambda item: (-item[1].at_ns, item[0]))
    return tuple(fact.value.by for voted, fact in votes if _whole(voted) == _entry(id, mark, trace))


def _part(entry: str, name: str) -> str:
    """Return the entry of a question's part: a person, or a place."""
    id, mark, trace = entry.split("\0")
    return "\0".join((id, mark, name[:TEXT_CAP].replace("\0", ""), trace))


def _whole(part: str) -> str:
    id, mark, _, trace = part.split("\0")
    return "\0".join((id, mark, trace))


def _unasked(facts: Facts, asked: Set[str]) -> list[Approval]:
    found: dict[str, Approval] = {}
    for entries in (facts.claimed_answers, facts.answers):
        for entry, fact in sorted(entries.items()):
            id, given = entry.split("\0")[0], fact.value
            if id not in asked:
                found[id] = Approval(
                    id=id,
                    decision=given.decision,
                    by=given.by,
                    comment=given.comment,
                    source=given.source,
                    rule=given.rule,
                    decided_at=moment(-fact.at_ns),
                )
    return [found[id] for id in sorted(found)]
