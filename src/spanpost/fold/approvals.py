"""Questions to people, as facts: what was asked in which words, what was answered, and what counts.

Rules. A question is known by its id and by a *digest* of its words: asked in other words it is another, and of one id the newest
wording stands, the others are void. An answer that a person gave through spanpost, or that bears the agent's mark, answers one
wording; one that the agent tells without a mark answers the id. The first answer stands; a person's through spanpost before
any that is told.

Theory. Both are facts by rank (`facts`), so any order comes to the same. Of questions the newest are kept.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

import msgspec

from spanpost import conventions as c
from spanpost.domain.interventions import ApprovalRow
from spanpost.domain.observations import Observation, Part
from spanpost.domain.readings import Approval, Reading, Tells
from spanpost.fold.facts import MAP_CAP, TEXT_CAP, Facts
from spanpost.fold.ids import named, uuid_of
from spanpost.fold.moments import EPOCH, moment

#: Maps of facts. `_ASKED` and `_ANSWERED` are what a spanpost before 1.5 knows of them: written still, for one that runs beside.
ASKS, ANSWERS, ESCALATIONS = "asks", "answers", "escalations"
_ASKED, _ANSWERED = "asked", "answered"
#: Kinds of topics.
APPROVAL, TASK = "approval", "task"
#: No honest deadline lies outside.
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)

_encode = msgspec.msgpack.Encoder().encode


class Expiry(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for questions that do not say it themselves."""

    #: How long a question is open; None: for ever.
    after: timedelta | None = None
    #: One of `conventions.AT_EXPIRY`.
    then: str = "expire"


def digest_of(approval: Approval) -> str:
    """Return the hash of what is asked. Its deadline is no part of it: asked again later, it is the same question."""
    a = approval
    words = (a.question, a.detail, a.options, a.risk, a.mark)
    try:
        packed = _encode(words)
    except UnicodeEncodeError:
        packed = repr(words).encode("utf-8", "backslashreplace")
    return blake2b(packed, digest_size=16).hexdigest()


def approval_of(row: ApprovalRow) -> Approval:
    """Return a question that is kept, in the words in which it was asked."""
    return Approval(
        id=row.approval_id,
        question=row.question,
        detail=row.detail,
        options=row.options,
        risk=row.risk,
        decision=row.decision,
        by=row.by,
        comment=row.comment,
        key=row.key,
    )


def approval_key(tenant: str, id: str, digest: str) -> UUID:
    """Return what a button carries."""
    return uuid_of(named(f"{tenant}\0approval\0{id}\0{digest}"))


def told_id(tenant: str, id: str, digest: str) -> UUID:
    """Return the id of the checkpoint that tells a question."""
    return uuid_of(named(f"{tenant}\0approval_requested\0{id}\0{digest}"))


def escalated_id(tenant: str, id: str, digest: str) -> UUID:
    """Return the id of the checkpoint that tells a question once more because nobody answered."""
    return uuid_of(named(f"{tenant}\0approval_escalated\0{id}\0{digest}"))


def topic_of(tenant: str, kind: str, id: str) -> bytes:
    """Return the 16 bytes under which an approval (by its id) or a task (by an alias) is locked, and waited for."""
    return blake2b(f"{tenant}\0{kind}\0{id}".encode("utf-8", "replace"), digest_size=16, person=b"topic").digest()


def deadline(said: str) -> datetime | None:
    """Return a time as agents write it: RFC 3339 (without a zone: UTC), or Unix seconds. None for what is neither."""
    said = said.strip()
    try:
        at = EPOCH + timedelta(seconds=float(said))
    except (ValueError, OverflowError):
        try:
            at = datetime.fromisoformat(said)
        except ValueError:
            return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return at if _EARLIEST < at < _LATEST else None


# --- facts ------------------------------------------------------------------------------------------------------------


def enter(facts: Facts, o: Observation, r: Reading, at: int, key: bytes) -> None:
    """Take in a question, an answer, or that a question was told once more."""
    a: Any = r.approval
    id = a.id[:TEXT_CAP]
    if o.name == c.EVENT_APPROVAL_ESCALATED:
        facts.enter(ESCALATIONS, f"{id}\0{a.digest}", 0, -at, key, at)
        return
    if a.decision or r.tells is Tells.APPROVAL_RESOLVED:
        is_ours = o.part is Part.INTERVENTION
        told = [a.decision, a.by, a.comment, a.source, a.is_expired]
        which = f"{id}\0{a.digest}" if is_ours else f"{id}\1{a.mark}" if a.mark else id
        facts.enter(ANSWERS, which, 1 if is_ours else 0, -at, key, told)  # the first stands
        facts.enter(_ANSWERED, id, 1 if is_ours else 0, -at, key, (a.decision, a.by, a.comment))
        return
    span = f"{o.trace_id.hex()}-{o.span_id.hex()}"
    asked = [a.question, a.detail, list(a.options), a.risk, a.expires_at, a.at_expiry, a.mark, a.has_id, span]
    facts.enter(ASKS, f"{id}\0{digest_of(a)}", 0, at, key, asked)
    facts.enter(_ASKED, id, 0, at, key, (a.question, a.detail, list(a.options), a.risk, a.expires_at))


def is_waiting(facts: Facts) -> bool:
    """Tell whether a question is open."""
    if not facts.maps.get(_ASKED):
        return False
    return any(a.is_open for a in approvals(facts, "", Expiry()))


def approvals(facts: Facts, tenant: str, expiry: Expiry) -> tuple[Approval, ...]:
    """Return the questions of a task in the order of asking, each wording by itself, with the answers that there are."""
    asks = _asks(facts)
    answers = facts.maps.get(ANSWERS, {})
    legacy = facts.maps.get(_ANSWERED, {})
    newest: dict[str, tuple[int, str]] = {}
    for entry, (at, _) in asks.items():
        id = entry.partition("\0")[0]
        newest[id] = max(newest.get(id, (0, "")), (at, entry))
    out = []
    for entry, (at, value) in sorted(asks.items(), key=lambda item: (item[1][0], item[0])):
        id, _, digest = entry.partition("\0")
        question, detail, options, risk, expires_at, at_expiry, mark, has_id, span = value
        fact = answers.get(entry) or (answers.get(f"{id}\1{mark}") if mark else None) or answers.get(id)
        if fact is None and id in legacy and legacy[id][0] == 0 and not any(_id(other) == id for other in answers):
            fact = (*legacy[id][:3], (*legacy[id][3], "", False))  # an older spanpost took it in
        decision, by, comment, source, is_expired = fact[3] if fact is not None else ("", "", "", "", False)
        escalated = facts.maps.get(ESCALATIONS, {}).get(entry)
        asked_at = moment(at)
        until = deadline(expires_at)
        if until is None and expiry.after is not None and asked_at is not None:
            until = asked_at + expiry.after
        out.append(
            Approval(
                id=id,
                question=question,
                detail=detail,
                options=tuple(options),
                risk=risk,
                expires_at=expires_at,
                decision=decision,
                by=by,
                comment=comment,
                at_expiry=at_expiry or expiry.then,
                mark=mark,
                has_id=has_id,
                source=source,
                is_expired=is_expired,
                digest=digest,
                key=approval_key(tenant, id, digest) if has_id else None,
                told_by=told_id(tenant, id, digest),
                escalated_by=escalated_id(tenant, id, digest) if escalated is not None else None,
                is_void=newest[id][1] != entry and not decision,
                asked_at=asked_at,
                deadline=until,
                decided_at=moment(-fact[1]) if fact is not None else None,
                escalated_at=moment(escalated[3]) if escalated is not None else None,
                span=span,
            )
        )
    # Answers to what was never asked, as far as it is known.
    return (*(a for a in _unasked(facts, newest)), *out)


def _asks(facts: Facts) -> dict[str, tuple[int, Any]]:
    """Return when and how each wording was asked last; those among them that only an older spanpost took in."""
    found = {entry: (fact[1], fact[3]) for entry, fact in facts.maps.get(ASKS, {}).items()}
    known = {_id(entry) for entry in found}
    # Older than all that are kept: it was let go of.
    oldest = min(at for at, _ in found.values()) if len(found) >= MAP_CAP else 0
    for id, fact in facts.maps.get(_ASKED, {}).items():
        if id not in known and fact[1] > oldest:
            question, detail, options, risk, expires_at = fact[3]
            a = Approval(id=id, question=question, detail=detail, options=tuple(options), risk=risk)
            found[f"{id}\0{digest_of(a)}"] = (fact[1], (question, detail, options, risk, expires_at, "", "", True, ""))
    return found


def _unasked(facts: Facts, asked: dict[str, Any]) -> list[Approval]:
    found: dict[str, Approval] = {}
    for id, fact in sorted(facts.maps.get(_ANSWERED, {}).items()):
        if id not in asked:
            decision, by, comment = fact[3]
            found[id] = Approval(id=id, decision=decision, by=by, comment=comment, decided_at=moment(-fact[1]))
    return list(found.values())


def _id(entry: str) -> str:
    return entry.partition("\0")[0].partition("\1")[0]
