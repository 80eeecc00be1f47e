"""Texts about standing approvals and questions to several people, in English."""

from __future__ import annotations

from typing import Final

from spanpost.text.locales.catalogue import Phrase

PHRASES: Final[dict[str, Phrase]] = {
    "button.allow_once": "Allow once",
    "button.allow_task": "Allow this tool in this task",
    "button.allow_hour": "Allow for one hour",
    "button.allow_always": "Always allow here",
    "button.revoke": "Revoke",
    "button.revoke_title": "Ask again from now on?",
    "button.revoke_text": "The standing approval ends for every task that it covers.",
    "button.revoke_yes": "Revoke it",
    "button.revoke_no": "Keep it",
    "grant.what": "Without asking again: the tool {tool} of the agent {agent} in {place}.",
    "grant.hour": "For one hour, for tasks of the same requester.",
    "grant.always": "Until it is revoked, and for {n} days at most.",
    "grant.risk": "Only for questions that state the risk {risk}.",
    "grant.no_risk": "Only for questions that state no risk.",
    "reply.tool": "tool {tool}",
    "reply.by_rule": "Allowed by {by}, in a standing approval",
    "reply.approved_further": "Approved by {by}, with a standing approval{through}",
    "reply.counted": "{count} of {needs} people approved: {names}",
    "reply.needs": "{needs} people must approve",
    "interactions.counted": "Your approval counts: {count} of {needs}. Another person must approve, too.",
    "interactions.no_scope": "This question can only be approved once: it names no tool, it has options, or "
    "more than one person must approve.",
    "interactions.revoked_by": "It was revoked before by {by}.",
    "done.revoke": "It was revoked: the next question of this tool is asked again.",
    "checkpoint.counted": "{by} approved, and another person must, too",
    "action.grant": "grant a standing approval",
    "action.revoke": "revoke a standing approval",
    "show.tool": "Tool",
    "show.reason": "Reason",
    "checkpoint.withdrawn": "Settled where the agent runs, or given up",
    "reply.ended": "The task ended without an answer",
    "reply.withdrawn": "Settled where the agent runs, or given up",
    "interactions.withdrawn": "This was settled where the agent runs; your answer changes nothing.",
}
