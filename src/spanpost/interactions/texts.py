"""Answers of interactions to people: outcomes in plain text, for every endpoint; refusals in Slack's mrkdwn."""

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
_DID: Final = {
    "approve": "interactions.approved",
    "deny": "interactions.denied",
    "expired": "interactions.not_in_time",
    "acknowledged": "interactions.acknowledged",
    "silenced": "interactions.silenced",
    "unsilenced": "interactions.unsilenced",
}
_TOO_LATE: Final = {Verb.RETRY: "interactions.too_late_to_retry", Verb.DISMISS: "interactions.nothing_to_dismiss"}
#: Refusals that are recorded and shown whole, as they stand here.
UNKNOWN: Final = ENGLISH.say("interactions.unknown")
ELSEWHERE: Final = ENGLISH.say("interactions.elsewhere")
NO_LAUNCHER: Final = ENGLISH.say("interactions.nobody_listens")
NO_ALERTMANAGER: Final = ENGLISH.say("interactions.no_alertmanager")
NO_OPTION: Final = ENGLISH.say("interactions.no_option")
WHOLE: Final = {
    UNKNOWN: "interactions.unknown",
    ELSEWHERE: "interactions.elsewhere",
    NO_LAUNCHER: "interactions.nobody_listens",
    NO_ALERTMANAGER: "interactions.no_alertmanager",
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


def done(verb: Verb, verdict: Verdict, name: str, locale: Locale = ENGLISH) -> str:
    """Return the sentence on an act that took effect; `name` is the task's or the launcher's. Plain text."""
    if verb.is_decision:
        return locale.say("done.decided", decision=line(verdict.decision, 80))
    return locale.say(f"done.{verb}", name=line(name, 200), decision=line(verdict.decision, 80))


def verdict(verb: Verb, verdict: Verdict, locale: Locale = ENGLISH) -> str:
    """Return why an act had no effect, and what to do; empty if it had one, or the rules refused it. Plain text."""
    by = line(verdict.by, 100)
    match verdict.result:
        case Result.DONE if verb is Verb.REVOKE:
            return locale.say("done.revoke")
        case Result.DONE | Result.REFUSED:
            return ""
        case Result.COUNTED:
            return locale.say("interactions.counted", count=verdict.approvals, needs=verdict.needs)
        case Result.NO_SCOPE:
            return locale.say("interactions.no_scope")
        case Result.DECIDED if verb is Verb.REVOKE:
            return locale.say("interactions.revoked_by", by=by)
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
        case Result.WITHDRAWN:
            return locale.say("interactions.withdrawn")
        case Result.HIDDEN:
            return locale.say("interactions.hidden")
        case Result.TOO_LATE:
            if verb.is_of_alert:
                return locale.say("interactions.too_late_for_alert")
            return locale.say(_TOO_LATE.get(verb, "interactions.too_late"))
        case Result.UNKNOWN:
            return locale.say("interactions.unknown")


def decision(decision: str, locale: Locale = ENGLISH) -> str:
    """Return a decision as a word that follows *was*."""
    if decision in _DID:
        return locale.say(_DID[decision])
    return (
        locale.say("interactions.answered_with", decision=line(decision, 80))
        if decision
        else locale.say("interactions.answered")
    )
