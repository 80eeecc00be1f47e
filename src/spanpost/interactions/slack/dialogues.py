"""Answers to submitted dialogues: decisions, and starts of work."""

from __future__ import annotations

from slack_bolt.response import BoltResponse

from spanpost.interactions.acts import Interactions
from spanpost.interactions.slack import decisions, starts
from spanpost.interactions.slack.payloads import Submission
from spanpost.interactions.slack.responses import answer, update
from spanpost.model.errors import StoreUnavailable
from spanpost.text.locales import Locale


async def submitted(interactions: Interactions, sent: Submission, locale: Locale) -> BoltResponse:
    """Carry out a submitted dialogue, and return the answer to Slack."""
    if sent.callback == starts.START:
        try:
            shown = await starts.submitted(interactions, sent, locale)
        except StoreUnavailable:
            return answer(200, "unavailable", starts.unsaved(sent, locale))
        return answer(200, "unreadable" if shown is None else "submission", shown)
    try:
        said = await decisions.submitted(interactions, sent)
    except StoreUnavailable:
        errors = {"comment": locale.say("interactions.unsure")}
        return answer(200, "unavailable", {"response_action": "errors", "errors": errors})
    if said is None or not said.answer:
        return answer(200, "unreadable" if said is None else "submission")
    return update(said.answer, "submission", said.locale)
