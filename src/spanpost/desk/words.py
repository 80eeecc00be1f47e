"""What the desk tells people. In Slack's mrkdwn: our own words, with everybody else's text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spanpost.desk.who import Ruling
from spanpost.domain.interventions import Result, Verb, Verdict
from spanpost.fold.redact import line
from spanpost.tongues import ENGLISH, Tongue

#: More of those who may are not named.
NAMED = 8
_DID: Final = {"approve": "desk.approved", "deny": "desk.denied", "expired": "desk.not_in_time"}
#: Refusals that are recorded as they stand here, and said whole.
UNKNOWN: Final = ENGLISH.say("desk.unknown")
ELSEWHERE: Final = ENGLISH.say("desk.elsewhere")
NOBODY_LISTENS: Final = ENGLISH.say("desk.nobody_listens")
NO_OPTION: Final = ENGLISH.say("desk.no_option")
WHOLE: Final = {
    UNKNOWN: "desk.unknown",
    ELSEWHERE: "desk.elsewhere",
    NOBODY_LISTENS: "desk.nobody_listens",
    NO_OPTION: "desk.no_option",
}


def escape(text: str) -> str:
    """Escape what would be read as mrkdwn's mentions and links."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def said(text: str, limit: int = 300) -> str:
    """Return somebody else's text on one line, literal."""
    return escape(line(text, limit))


def refused(ruling: Ruling, tongue: Tongue = ENGLISH) -> str:
    """Tell somebody that they may not, why, and who may."""
    why = said("; ".join(map(tongue.tell, ruling.why)) or ruling.refusal)
    if named := who_may(ruling.who, tongue):
        return tongue.say("desk.who_may", why=why, who=named)
    return tongue.say("desk.refused", why=why)


def who_may(who: Sequence[tuple[str, str]], tongue: Tongue = ENGLISH) -> str:
    """Name those who may; mentions in an ephemeral message call nobody."""
    named = ", ".join(_one_who_may(kind, escape(value), tongue) for kind, value in who[:NAMED])
    return tongue.say("desk.and_more", names=named, n=len(who) - NAMED) if len(who) > NAMED else named


def _one_who_may(kind: str, value: str, tongue: Tongue) -> str:
    match kind:
        case "user":
            return f"<@{value}>"
        case "group":
            return f"<!subteam^{value}>"
        case "channel":
            return tongue.say("desk.members", channel=f"<#{value}>")
        case "role":
            return tongue.say("desk.role", role=value)
        case "requester":
            return tongue.say("desk.requester")
        case "resolver":
            return tongue.say("desk.resolver", resolver=value)
        case _:
            return value


def verdict(verb: Verb, verdict: Verdict, tongue: Tongue = ENGLISH) -> str:
    """Tell somebody what became of their act, where the message itself will not; empty when it will."""
    by = said(verdict.by, 100)
    match verdict.result:
        case Result.DONE | Result.REFUSED:
            return ""
        case Result.DECIDED if verb is Verb.RETRY:
            return tongue.say("desk.retried_by", by=by) if by else tongue.say("desk.retried")
        case Result.DECIDED:
            did = decision(verdict.decision, tongue)
            return tongue.say("desk.already_by", decision=did, by=by) if by else tongue.say("desk.already", decision=did)
        case Result.VOID:
            return tongue.say("desk.void")
        case Result.EXPIRED:
            return tongue.say("desk.expired")
        case Result.HIDDEN:
            return tongue.say("desk.hidden")
        case Result.TOO_LATE:
            return tongue.say("desk.too_late_to_hear" if verb is Verb.MESSAGE else "desk.too_late")
        case Result.UNKNOWN:
            return tongue.say("desk.unknown")


def decision(decision: str, tongue: Tongue = ENGLISH) -> str:
    """Return a decision as a word that follows *was*."""
    if decision in _DID:
        return tongue.say(_DID[decision])
    return tongue.say("desk.answered_with", decision=said(decision, 80)) if decision else tongue.say("desk.answered")
