"""Questions to people and their answers, from events and log records.

The mark of a question is computed here from its words as received, before any of them is cut or redacted.
The mark that a sender gives is only compared with it.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from spanpost import semconv as c
from spanpost.model.observations import Observation, Part, Repair
from spanpost.model.readings import Approval, EventReport
from spanpost.readers import values as v

#: Options and risk may be numbers, too.
_WORDS = (str, int, float, type(None))


def read_approval(o: Observation, said: dict[str, Any]) -> None:
    """Read a question, an answer, or spanpost's own record of one.

    The event's name alone decides which it is.
    """
    if o.part is Part.INTERVENTION:
        _recorded(o, said)
    elif o.name == c.EVENT_APPROVAL_REQUESTED:
        _asked(o, said)
    elif o.name == c.EVENT_APPROVAL_RESOLVED:
        _reported(o, said)
    # What only spanpost records is believed of no sender.


def _asked(o: Observation, said: dict[str, Any]) -> None:
    a = o.attributes
    question = v.long_text(a.get(c.APPROVAL_QUESTION)) or v.long_text(o.body) or ""
    detail = v.long_text(a.get(c.APPROVAL_DETAIL)) or ""
    options, risk = _options(a.get(c.APPROVAL_OPTIONS)), _plain(a.get(c.APPROVAL_RISK))
    claimed, mark = v.identifier(a.get(c.APPROVAL_DIGEST)), c.question_mark(question, detail, options, risk)
    at_expiry = (v.text(a.get(c.APPROVAL_AT_EXPIRY)) or "").strip().lower()
    id, has_id = _id(o, question)
    is_altered = claimed is not None and claimed != mark
    is_long = len(question) > c.QUESTION_LIMIT or len(detail) > c.QUESTION_LIMIT or len(options) > c.OPTIONS_LIMIT
    is_long = is_long or any(len(text) > c.OPTION_LIMIT for text in (*options, risk))
    approval = Approval(
        id=id,
        question=question[: c.QUESTION_LIMIT],
        detail=detail[: c.QUESTION_LIMIT],
        options=tuple(option[: c.OPTION_LIMIT] for option in options[: c.OPTIONS_LIMIT]),
        risk=risk[: c.OPTION_LIMIT],
        expires_at=v.text(a.get(c.APPROVAL_EXPIRES_AT)) or "",
        at_expiry=at_expiry if at_expiry in c.AT_EXPIRY else "",
        has_id=has_id,
        mark=mark,
        is_asked=claimed is not None,
        is_altered=is_altered,
        is_cut=is_altered or is_long or bool(o.repairs & Repair.TRUNCATED) or _is_unread(o, question),
    )
    said.update(reports=EventReport.APPROVAL_REQUESTED, approval=approval, occurrence=f"{o.name}:{id}")


def _reported(o: Observation, said: dict[str, Any]) -> None:
    """Read a decision in telemetry; one with a mark repeats spanpost's own decision, which is nothing new."""
    a = o.attributes
    decision, mark = v.text(a.get(c.APPROVAL_DECISION)) or "resolved", v.identifier(a.get(c.APPROVAL_DIGEST)) or ""
    id, _ = _id(o, v.long_text(a.get(c.APPROVAL_QUESTION)) or v.long_text(o.body) or "")
    approval = Approval(
        id=id,
        decision=decision,
        by=v.text(a.get(c.APPROVAL_BY)) or "",
        comment=_comment(o),
        mark=mark,
        is_expired=decision == c.EXPIRED,
    )
    said.update(
        reports=EventReport.NOTHING if mark else EventReport.APPROVAL_RESOLVED,
        approval=approval,
        occurrence=f"{o.name}:{id}",
    )


def _recorded(o: Observation, said: dict[str, Any]) -> None:
    """Read spanpost's own record. No sender can make one, so all of its fields are trusted."""
    a = o.attributes
    id, _ = _id(o, "")
    approval = Approval(
        id=id,
        question=v.long_text(a.get(c.APPROVAL_QUESTION)) or "",
        detail=v.long_text(a.get(c.APPROVAL_DETAIL)) or "",
        decision=v.text(a.get(c.APPROVAL_DECISION)) or "",
        by=v.text(a.get(c.APPROVAL_BY)) or "",
        comment=_comment(o),
        mark=v.text(a.get(c.APPROVAL_DIGEST)) or "",
        source=v.text(a.get(c.INTERVENTION_SOURCE)) or "",
        # Not by the decision: an option may be called `expired`.
        is_expired=a.get(c.INTERVENTION_EXPIRED) is True,
    )
    report = EventReport.APPROVAL_REQUESTED if o.name == c.EVENT_APPROVAL_ESCALATED else EventReport.APPROVAL_RESOLVED
    if o.name == c.EVENT_APPROVAL_AWAITED or c.INTERVENTION_AGAIN in a:
        report = EventReport.NOTHING  # it was reported where it was asked or decided
    said.update(reports=report, approval=approval, occurrence=f"{o.name}:{id}")


def _id(o: Observation, question: str) -> tuple[str, bool]:
    """Return a question's id, and whether the agent gave it.

    Without an id the question's words identify it, and no answer can be matched to it.
    """
    id = v.identifier(o.attributes.get(c.APPROVAL_ID))
    if id is not None:
        return id, True
    return blake2b(
        b"\0".join((o.trace_id, o.span_id, question.encode("utf-8", "replace"))), digest_size=8
    ).hexdigest(), False


def _is_unread(o: Observation, question: str) -> bool:
    """Tell whether a question has words in an unreadable form, which no person would see."""
    a = o.attributes
    options = a.get(c.APPROVAL_OPTIONS)
    texts = (a.get(c.APPROVAL_QUESTION), a.get(c.APPROVAL_DETAIL), None if question else o.body)
    words = (a.get(c.APPROVAL_RISK), *(options if type(options) is list else (options,)))
    return any(type(one) not in (str, type(None)) for one in texts) or any(type(one) not in _WORDS for one in words)


def _options(said: Any) -> list[str]:
    given = said.split(",") if type(said) is str else said if type(said) is list else []
    return [option for option in (_plain(one).strip() for one in given) if option]


def _plain(value: Any) -> str:
    """Return a text of any length; a number as its text."""
    return value if type(value) is str else v.text(value) or ""


def _comment(o: Observation) -> str:
    return (v.long_text(o.attributes.get(c.APPROVAL_COMMENT)) or "")[: c.QUESTION_LIMIT]
