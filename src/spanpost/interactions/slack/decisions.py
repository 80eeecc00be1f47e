"""Decisions in Slack: the effects of a press and of a submitted dialogue.

One press decides only if the whole question is visible beside the button. A longer question is approved in
a dialogue that shows it whole; a question that is partly unreadable is not approved in Slack. This is
judged for the question as it is when the press arrives, whatever button the message had. A dialogue carries
a digest of the question that it showed: if the question changed, it decides nothing. Anything may be denied
by one press.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

from spanpost.interactions import texts
from spanpost.interactions.acts import Interactions, RequestedAct
from spanpost.interactions.authorization import VIEW
from spanpost.interactions.protocols import Asked, PersonMessage
from spanpost.interactions.slack import modals, payloads
from spanpost.interactions.slack.payloads import PREFIX, READ, Click, Submission
from spanpost.model.interventions import Result, Verb, Verdict
from spanpost.model.tasks import Task
from spanpost.text.legible import ShownText
from spanpost.text.locales import ENGLISH, Locale

Comments: TypeAlias = Literal["deny", "always", "never"]
_DECISIONS: Final = (Verb.APPROVE, Verb.DENY, Verb.CHOOSE)


class PressedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a press: a dialogue, or an ephemeral text; neither if the message will show it."""

    view: dict[str, Any] | None = None
    answer: str = ""
    locale: Locale = ENGLISH


async def pressed(
    interactions: Interactions, click: Click, comments: Comments, conceal: Callable[[Task], Task]
) -> PressedAnswer:
    """Carry out a press. Raises `StoreUnavailable`: nothing was done."""
    if click.action in (VIEW, READ):
        asked = await interactions.find(click.key, click.message)
        locale = interactions.locale(asked, click.message)
        if asked is None:
            return PressedAnswer(answer=locale.say("interactions.unknown"))
        if click.action == READ:
            return await _read(interactions, click, asked, locale)
        refusal = await interactions.may_view(asked, click.user, click.message, is_foreign=click.is_foreign)
        return (
            PressedAnswer(answer=refusal)
            if refusal
            else PressedAnswer(view=modals.details(conceal(asked.task), locale), locale=locale)
        )
    act = act_of(click)
    if act.verb.is_decision:
        asked = await interactions.find(click.key, click.message)
        shown = interactions.shown(asked, click.message)
        if (
            asked is not None
            and shown is not None
            and (_wants_comment(comments, act.verb) or not _is_beside(act.verb, shown))
        ):
            locale = interactions.locale(asked, click.message)
            against = await interactions.may(act)
            if against is not None:
                return PressedAnswer(answer=against.answer)
            if not _is_beside(act.verb, shown):
                return await _read(interactions, click, asked, locale)
            word = f"{click.action}{'' if click.option is None else f':{click.option}'}"
            return PressedAnswer(
                view=modals.comment(_meta(click, word, shown), shown, locale, option=click.option), locale=locale
            )
    return PressedAnswer(answer=(await interactions.do(act)).answer)


async def _read(interactions: Interactions, click: Click, asked: Asked, locale: Locale) -> PressedAnswer:
    """Open the dialogue with the whole question, for users who may decide it. Writes no intervention."""
    if not asked.is_shown_there:
        return PressedAnswer(answer=locale.say("interactions.elsewhere"))
    approval, shown = asked.approval, interactions.shown(asked, click.message)
    if approval is None:
        return PressedAnswer(answer=locale.say("interactions.unknown"))
    if shown is None:
        decided = Verdict(result=Result.DECIDED, decision=approval.decision, by=approval.by)
        return PressedAnswer(answer=texts.verdict(Verb.APPROVE, decided, locale))
    verbs = (Verb.DENY,) if not shown.is_whole else (Verb.CHOOSE,) if approval.options else (Verb.APPROVE, Verb.DENY)
    granted, refusal = await interactions.may_any(verbs, asked, click.user, click.message, is_foreign=click.is_foreign)
    if not granted:
        return PressedAnswer(answer=refusal)
    return PressedAnswer(view=modals.decision(_meta(click, READ, shown), shown, granted, locale), locale=locale)


async def submitted(interactions: Interactions, sent: Submission) -> PressedAnswer | None:
    """Carry out the decision of a submitted dialogue; None if it is not ours.

    Raises `StoreUnavailable`: nothing was done.
    """
    meta = modals.read(sent.meta)
    word = sent.choice if meta is not None and meta.v == READ else meta.v if meta is not None else ""
    meant = payloads.grammar(f"{PREFIX}{word}", meta.k) if meta is not None else None
    if meta is None or meant is None or meant[0] not in _DECISIONS:
        return None
    message = PersonMessage(team=sent.team, channel=meta.c, ts=meta.t, is_ours=meta.b)
    act = RequestedAct(
        verb=Verb(meant[0]),
        key=meant[2],
        user=sent.user,
        message=message,
        is_foreign=sent.is_foreign,
        option=meant[1],
        text=sent.comment,
        idempotency_key=sent.idempotency_key,
        at=datetime.now(UTC),
    )
    if act.verb is not Verb.DENY:
        asked = await interactions.find(act.key, message)
        shown = interactions.shown(asked, message)
        if shown is not None and not (shown.is_whole and shown.digest == meta.d):
            locale = interactions.locale(asked, message)
            return PressedAnswer(
                answer=locale.say("interactions.changed" if shown.is_whole else "interactions.hidden"), locale=locale
            )
    outcome = await interactions.do(act)
    return PressedAnswer(answer=outcome.answer, locale=outcome.locale)


def act_of(click: Click) -> RequestedAct:
    """Return the act that a click asks for."""
    return RequestedAct(
        verb=Verb(click.action),
        key=click.key,
        user=click.user,
        message=click.message,
        is_foreign=click.is_foreign,
        option=click.option,
        idempotency_key=click.idempotency_key,
        at=click.at,
    )


def _is_beside(verb: Verb, shown: ShownText) -> bool:
    """Tell whether one press decides: it denies, or the whole question is visible beside the button."""
    return verb is Verb.DENY or (shown.is_whole and shown.is_brief)


def _wants_comment(comments: Comments, verb: Verb) -> bool:
    return comments == "always" or (comments == "deny" and verb is Verb.DENY)


def _meta(click: Click, word: str, shown: ShownText) -> modals.Meta:
    place = click.message
    return modals.Meta(v=word, k=click.key.hex, c=place.channel, t=place.ts, b=place.is_ours, d=shown.digest)
