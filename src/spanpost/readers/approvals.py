"""Questions to people and their answers, from events and log records.

The mark of a question is computed here from its words as received, before any of them is cut or redacted.
The mark that a sender gives is only compared with it.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any, Final

from spanpost import semconv as c
from spanpost.model.observations import Observation, Part, Repair
from spanpost.model.readings import Approval, EventReport
from spanpost.readers import values as v

#: Options and risk may be numbers, too.
_WORDS = (str, int, float, type(None))
#: A session that can be resumed, and a directory: neither may be read as an option of a command.
_SESSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_DIRECTORY: Final = re.compile(r"/[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,1023}|")
#: Most seconds for one place of a chain.
_LONGEST = 30 * 86_400.0


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
    tool = _plain(a.get(c.APPROVAL_TOOL))
    claimed, mark = v.identifier(a.get(c.APPROVAL_DIGEST)), c.question_mark(question, detail, options, risk, tool)
    at_expiry = (v.text(a.get(c.APPROVAL_AT_EXPIRY)) or "").strip().lower()
    id, has_id = _id(o, question)
    is_altered = claimed is not None and claimed != mark
    is_long = len(question) > c.QUESTION_LIMIT or len(detail) > c.QUESTION_LIMIT or len(options) > c.OPTIONS_LIMIT
    is_long = is_long or any(len(text) > c.OPTION_LIMIT for text in (*options, risk, tool))
    approval = Approval(
        id=id,
        question=question[: c.QUESTION_LIMIT],
        detail=detail[: c.QUESTION_LIMIT],
        options=tuple(option[: c.OPTION_LIMIT] for option in options[: c.OPTIONS_LIMIT]),
        risk=risk[: c.OPTION_LIMIT],
        tool=tool[: c.OPTION_LIMIT],
        needs=_needs(a.get(c.APPROVAL_NEEDS)),
        to=tuple(_options(a.get(c.APPROVAL_TO)))[: c.TO_LIMIT],
        to_after=_seconds(a.get(c.APPROVAL_TO_AFTER)),
        expires_at=v.text(a.get(c.APPROVAL_EXPIRES_AT)) or "",
        at_expiry=at_expiry if at_expiry in c.AT_EXPIRY else "",
        has_id=has_id,
        ask_after=_ask_after(a.get(c.APPROVAL_ASK_AFTER)),
        resume=resume_of(a.get(c.APPROVAL_RESUME)),
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
        rule=v.text(a.get(c.INTERVENTION_RULE)) or "",
        # Not by the decision: an option may be called `expired`.
        is_expired=a.get(c.INTERVENTION_EXPIRED) is True,
    )
    is_asked_again = o.name in (c.EVENT_APPROVAL_ESCALATED, c.EVENT_APPROVAL_PASSED_ON)
    report = EventReport.APPROVAL_REQUESTED if is_asked_again else EventReport.APPROVAL_RESOLVED
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
    words = (a.get(c.APPROVAL_RISK), a.get(c.APPROVAL_TOOL), *(options if type(options) is list else (options,)))
    return any(type(one) not in (str, type(None)) for one in texts) or any(type(one) not in _WORDS for one in words)


def _options(said: Any) -> list[str]:
    given = said.split(",") if type(said) is str else said if type(said) is list else []
    return [option for option in (_plain(one).strip() for one in given) if option]


def _needs(said: Any) -> int:
    """Return how many people must approve. A number that cannot be read asks for as many as there can be."""
    if said is None:
        return 1
    count = v.count(said)
    return min(max(count, 1), c.NEEDS_LIMIT) if count is not None else c.NEEDS_LIMIT


def _seconds(said: Any) -> float:
    seconds = v.number(said)
    return min(max(seconds, 0.0), _LONGEST) if seconds is not None else 0.0


def _plain(value: Any) -> str:
    """Return a text of any length; a number as its text."""
    return value if type(value) is str else v.text(value) or ""


def _ask_after(value: Any) -> float:
    """Return the seconds before people are asked, within bounds; anything else is none."""
    given = v.number(value)
    return min(max(given, 0.0), c.LONGEST_ASK_AFTER) if given is not None else 0.0


def resume_of(value: Any) -> tuple[str, ...]:
    """Return session and directory of a run that can be resumed; empty for anything else."""
    given = value if type(value) is list and len(value) == 2 else [None, None]
    session, directory = given
    if type(session) is not str or type(directory) is not str:
        return ()
    is_safe = _SESSION.fullmatch(session) is not None and _DIRECTORY.fullmatch(directory) is not None
    return (session, directory) if is_safe else ()


def _comment(o: Observation) -> str:
    return (v.long_text(o.attributes.get(c.APPROVAL_COMMENT)) or "")[: c.QUESTION_LIMIT]
