"""Answers of interactions to people, in Slack's mrkdwn; foreign text in them is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spanpost.interactions.authorization import Ruling
from spanpost.model.interventions import Result, Verb, Verdict
from spanpost.sinks.slack.blocks import escape
from spanpost.text.locales import ENGLISH, Locale
from spanpost.text.sanitise import line

#: Most people that a refusal names.
NAMED = 8
_DID: Final = {"approve": "interactions.approved", "deny": "interactions.denied", "expired": "interactions.not_in_time"}
#: Refusals that are recorded and shown whole, as they stand here.
UNKNOWN: Final = ENGLISH.say("interactions.unknown")
ELSEWHERE: Final = ENGLISH.say("interactions.elsewhere")
NO_LAUNCHER: Final = ENGLISH.say("interactions.nobody_listens")
NO_OPTION: Final = ENGLISH.say("interactions.no_option")
WHOLE: Final = {
    UNKNOWN: "interactions.unknown",
    ELSEWHERE: "interactions.elsewhere",
    NO_LAUNCHER: "interactions.nobody_listens",
    NO_OPTION: "interactions.no_option",
}


def said(text: str, limit: int = 300) -> str:
    """Return foreign text on one line, escaped."""
    return escape(line(text, limit))


def refused(ruling: Ruling, locale: Locale = ENGLISH) -> str:
    """Return a refusal: why, and who may do it."""
    why = said("; ".join(map(locale.tell, ruling.why)) or ruling.refusal)
    if named := who_may(ruling.who, locale):
        return locale.say("interactions.who_may", why=why, who=named)
    return locale.say("interactions.refused", why=why)


def who_may(who: Sequence[tuple[str, str]], locale: Locale = ENGLISH) -> str:
    """Name the people who may. Mentions in an ephemeral message notify no one."""
    named = ", ".join(_one_who_may(kind, escape(value), locale) for kind, value in who[:NAMED])
    return locale.say("interactions.and_more", names=named, n=len(who) - NAMED) if len(who) > NAMED else named


def _one_who_may(kind: str, value: str, locale: Locale) -> str:
    match kind:
        case "user":
            return f"<@{value}>"
        case "group":
            return f"<!subteam^{value}>"
        case "channel":
            return locale.say("interactions.members", channel=f"<#{value}>")
        case "role":
            return locale.say("interactions.role", role=value)
        case "requester":
            return locale.say("interactions.requester")
        case "resolver":
            return locale.say("interactions.resolver", resolver=value)
        case _:
            return value


def verdict(verb: Verb, verdict: Verdict, locale: Locale = ENGLISH) -> str:
    """Return the outcome of an act, where the message itself does not show it; else an empty string."""
    by = said(verdict.by, 100)
    match verdict.result:
        case Result.DONE | Result.REFUSED:
            return ""
        case Result.DECIDED if verb is Verb.RETRY:
            return locale.say("interactions.retried_by", by=by) if by else locale.say("interactions.retried")
        case Result.DECIDED:
            did = decision(verdict.decision, locale)
            return (
                locale.say("interactions.already_by", decision=did, by=by)
                if by
                else locale.say("interactions.already", decision=did)
            )
        case Result.VOID:
            return locale.say("interactions.void")
        case Result.EXPIRED:
            return locale.say("interactions.expired")
        case Result.HIDDEN:
            return locale.say("interactions.hidden")
        case Result.TOO_LATE:
            return locale.say("interactions.too_late_to_hear" if verb is Verb.MESSAGE else "interactions.too_late")
        case Result.UNKNOWN:
            return locale.say("interactions.unknown")


def decision(decision: str, locale: Locale = ENGLISH) -> str:
    """Return a decision as a word that follows *was*."""
    if decision in _DID:
        return locale.say(_DID[decision])
    return (
        locale.say("interactions.answered_with", decision=said(decision, 80))
        if decision
        else locale.say("interactions.answered")
    )
