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
from spanpost.interactions.acts import Interactions
from spanpost.interactions.authorization import VIEW
from spanpost.interactions.protocols import Asked, PersonMessage
from spanpost.interactions.requested_acts import RequestedAct
from spanpost.interactions.slack import modals, payloads
from spanpost.interactions.slack.payloads import PREFIX, READ, Click, Submission
from spanpost.model.acts import SLACK, ContentKind
from spanpost.model.interventions import DOWN, RATINGS, Actor, Result, Verb, Verdict
from spanpost.model.standing_approvals import Scope
from spanpost.model.tasks import Task
from spanpost.sinks.slack.blocks import escape
from spanpost.text.legible import ShownText
from spanpost.text.locales import ENGLISH, Locale

Comments: TypeAlias = Literal["deny", "always", "never"]
#: The acts that a dialogue may carry.
_DECISIONS: Final = (Verb.APPROVE, Verb.DENY, Verb.CHOOSE, Verb.RATE)
#: Scopes beyond a task: what they allow is read in a dialogue first.
_FAR: Final = (Scope.HOUR, Scope.ALWAYS)


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
        if refusal:
            return PressedAnswer(answer=refusal)
        await _note_read(interactions, click, asked, ContentKind.MESSAGE)
        return PressedAnswer(view=modals.details(conceal(asked.task), locale), locale=locale)
    act = act_of(click)
    if act.verb is Verb.RATE and click.option is not None and _wants_comment(comments, RATINGS[click.option]):
        against = await interactions.may(act)
        if against is not None:
            return PressedAnswer(answer=against.answer)
        asked = await interactions.find(click.key, click.message)
        locale = interactions.locale(asked, click.message)
        meta = _meta(click, f"{click.action}:{click.option}", "")
        return PressedAnswer(view=modals.rating(meta, RATINGS[click.option], locale), locale=locale)
    if act.verb is Verb.SILENCE:
        against = await interactions.may(act)
        if against is not None:
            return PressedAnswer(answer=against.answer)
        asked = await interactions.find(click.key, click.message)
        assert asked is not None
        assert asked.alert is not None
        locale, place = interactions.locale(asked, click.message), click.message
        meta = modals.Meta(v=str(Verb.SILENCE), k=click.key.hex, c=place.channel, t=place.ts, b=place.is_ours)
        return PressedAnswer(view=modals.silence(meta, asked.alert.name, locale), locale=locale)
    if act.verb.is_decision:
        asked = await interactions.find(click.key, click.message)
        shown = interactions.shown(asked, click.message)
        if (
            asked is not None
            and shown is not None
            and (_wants_comment(comments, act.verb) or act.scope in _FAR or not _is_beside(act.verb, shown))
        ):
            locale = interactions.locale(asked, click.message)
            against = await interactions.may(act)
            if against is not None:
                return PressedAnswer(answer=against.answer)
            if not _is_beside(act.verb, shown):
                return await _read(interactions, click, asked, locale)
            await _note_read(interactions, click, asked, ContentKind.QUESTION)
            if act.scope in _FAR:
                meta = _meta(click, f"{click.action}:{act.scope}", shown.digest)
                view = modals.grant(meta, shown, act.scope, asked.task, interactions.always_for, locale)
                return PressedAnswer(view=view, locale=locale)
            word = f"{click.action}{'' if click.option is None else f':{click.option}'}"
            return PressedAnswer(
                view=modals.comment(_meta(click, word, shown.digest), shown, locale, option=click.option), locale=locale
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
        return PressedAnswer(answer=escape(texts.verdict(Verb.APPROVE, decided, locale)))
    verbs = (Verb.DENY,) if not shown.is_whole else (Verb.CHOOSE,) if approval.options else (Verb.APPROVE, Verb.DENY)
    granted, refusal = await interactions.may_any(verbs, asked, click.user, click.message, is_foreign=click.is_foreign)
    if not granted:
        return PressedAnswer(answer=refusal)
    await _note_read(interactions, click, asked, ContentKind.QUESTION)
    further = bool(approval.tool) and approval.needs == 1 and not approval.options
    return PressedAnswer(
        view=modals.decision(_meta(click, READ, shown.digest), shown, granted, locale, further=further), locale=locale
    )


async def _note_read(interactions: Interactions, click: Click, asked: Asked, kind: ContentKind) -> None:
    if interactions.read_log is not None:
        by = Actor(provider=SLACK, team=click.message.team, id=click.user, credential=SLACK)
        await interactions.read_log.note(by, kind, asked.task.tenant, [asked.task.uid])


async def submitted(interactions: Interactions, sent: Submission) -> PressedAnswer | None:
    """Carry out the decision of a submitted dialogue; None if it is not ours.

    Raises `StoreUnavailable`: nothing was done.
    """
    meta = modals.read(sent.meta)
    word = sent.choice if meta is not None and meta.v == READ else meta.v if meta is not None else ""
    meant = payloads.grammar(f"{PREFIX}{word}", meta.k) if meta is not None else None
    if meta is None or meant is None or meant[0] not in (*_DECISIONS, Verb.SILENCE):
        return None
    now = datetime.now(UTC)
    until = interactions.alerts.until(sent.choice, now) if interactions.alerts is not None else None
    if meant[0] == Verb.SILENCE and until is None:
        return None
    message = PersonMessage(team=sent.team, channel=meta.c, ts=meta.t, is_ours=meta.b)
    act = RequestedAct(
        verb=Verb(meant[0]),
        key=meant[3],
        scope=meant[2],
        user=sent.user,
        message=message,
        is_foreign=sent.is_foreign,
        option=meant[1],
        text=sent.comment,
        parameters={"until": until.isoformat()} if until is not None and meant[0] == Verb.SILENCE else {},
        idempotency_key=sent.idempotency_key,
        at=now,
    )
    if act.verb is Verb.SILENCE:
        outcome = await interactions.do(act)
        return PressedAnswer(answer=outcome.answer or outcome.locale.say("show.silenced"), locale=outcome.locale)
    if act.verb not in (Verb.DENY, Verb.RATE):
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
        scope=click.scope,
        idempotency_key=click.idempotency_key,
        at=click.at,
    )


def _is_beside(verb: Verb, shown: ShownText) -> bool:
    """Tell whether one press decides: it denies, or the whole question is visible beside the button."""
    return verb is Verb.DENY or (shown.is_whole and shown.is_brief)


def _wants_comment(comments: Comments, word: str) -> bool:
    """Tell whether an answer or a rating asks for a comment first: a refusal by default, or each."""
    return comments == "always" or (comments == "deny" and word in (Verb.DENY, DOWN))


def _meta(click: Click, word: str, digest: str) -> modals.Meta:
    place = click.message
    return modals.Meta(v=word, k=click.key.hex, c=place.channel, t=place.ts, b=place.is_ours, d=digest, h=click.is_home)
