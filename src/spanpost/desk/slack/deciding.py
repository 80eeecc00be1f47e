"""Answers to questions in Slack: what a press opens or does, and what a dialogue that was sent off decides.

Rules. One press decides where all of the question stands beside the button, and nothing else does: a longer one is approved in a
dialogue in which it stands whole, and one of which a part cannot be read is not approved here. This is asked of the question as it
is when the press arrives, whatever button the message had. A dialogue says by a digest what stood in it; where that is not what
stands there now, it decides nothing. Anything may be denied by one press.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

from spanpost.desk import words
from spanpost.desk.acts import Act, Desk
from spanpost.desk.base import Asked, Message
from spanpost.desk.slack import modals, payloads
from spanpost.desk.slack.payloads import PREFIX, READ, Click, Submission
from spanpost.desk.who import VIEW
from spanpost.domain.interventions import Result, Verb, Verdict
from spanpost.domain.tasks import Task
from spanpost.fold.legible import Shown
from spanpost.tongues import ENGLISH, Tongue

Comments: TypeAlias = Literal["deny", "always", "never"]
_DECISIONS: Final = (Verb.APPROVE, Verb.DENY, Verb.CHOOSE)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody gets who pressed: a dialogue, or words to them alone; neither where the message will show it."""

    view: dict[str, Any] | None = None
    told: str = ""
    tongue: Tongue = ENGLISH


async def pressed(desk: Desk, click: Click, comments: Comments, conceal: Callable[[Task], Task]) -> Answer:
    """Do what a press asks for. Raises `LedgerUnavailable`: nothing is done."""
    if click.action in (VIEW, READ):
        asked = await desk.find(click.key, click.message)
        tongue = desk.tongue(asked, click.message)
        if asked is None:
            return Answer(told=tongue.say("desk.unknown"))
        if click.action == READ:
            return await _read(desk, click, asked, tongue)
        refusal = await desk.may_view(asked, click.user, click.message, is_foreign=click.is_foreign)
        return Answer(told=refusal) if refusal else Answer(view=modals.details(conceal(asked.task), tongue), tongue=tongue)
    act = act_of(click)
    if act.verb.is_decision:
        asked = await desk.find(click.key, click.message)
        shown = desk.shown(asked, click.message)
        if asked is not None and shown is not None and (_wants_comment(comments, act.verb) or not _is_beside(act.verb, shown)):
            tongue = desk.tongue(asked, click.message)
            against = await desk.may(act)
            if against is not None:
                return Answer(told=against.told)
            if not _is_beside(act.verb, shown):
                return await _read(desk, click, asked, tongue)
            word = f"{click.action}{'' if click.option is None else f':{click.option}'}"
            return Answer(view=modals.comment(_meta(click, word, shown), shown, tongue, option=click.option), tongue=tongue)
    return Answer(told=(await desk.do(act)).told)


async def _read(desk: Desk, click: Click, asked: Asked, tongue: Tongue) -> Answer:
    """Open the dialogue in which a question stands whole, for those who may decide it; no intervention, and no row."""
    if not asked.is_told_there:
        return Answer(told=tongue.say("desk.elsewhere"))
    approval, shown = asked.approval, desk.shown(asked, click.message)
    if approval is None:
        return Answer(told=tongue.say("desk.unknown"))
    if shown is None:
        decided = Verdict(result=Result.DECIDED, decision=approval.decision, by=approval.by)
        return Answer(told=words.verdict(Verb.APPROVE, decided, tongue))
    verbs = (Verb.DENY,) if not shown.is_whole else (Verb.CHOOSE,) if approval.options else (Verb.APPROVE, Verb.DENY)
    granted, refusal = await desk.may_any(verbs, asked, click.user, click.message, is_foreign=click.is_foreign)
    if not granted:
        return Answer(told=refusal)
    return Answer(view=modals.decision(_meta(click, READ, shown), shown, granted, tongue), tongue=tongue)


async def submitted(desk: Desk, sent: Submission) -> Answer | None:
    """Do what a dialogue decides that was sent off; None for what is none of ours. Raises `LedgerUnavailable`: nothing is done."""
    meta = modals.read(sent.meta)
    word = sent.choice if meta is not None and meta.v == READ else meta.v if meta is not None else ""
    meant = payloads.grammar(f"{PREFIX}{word}", meta.k) if meta is not None else None
    if meta is None or meant is None or meant[0] not in _DECISIONS:
        return None
    message = Message(team=sent.team, channel=meta.c, ts=meta.t, is_ours=meta.b)
    act = Act(
        verb=Verb(meant[0]),
        key=meant[2],
        user=sent.user,
        message=message,
        is_foreign=sent.is_foreign,
        option=meant[1],
        text=sent.comment,
        once=sent.once,
        at=datetime.now(UTC),
    )
    if act.verb is not Verb.DENY:
        asked = await desk.find(act.key, message)
        shown = desk.shown(asked, message)
        if shown is not None and not (shown.is_whole and shown.digest == meta.d):
            tongue = desk.tongue(asked, message)
            return Answer(told=tongue.say("desk.changed" if shown.is_whole else "desk.hidden"), tongue=tongue)
    outcome = await desk.do(act)
    return Answer(told=outcome.told, tongue=outcome.tongue)


def act_of(click: Click) -> Act:
    """Return what a click asks for."""
    return Act(
        verb=Verb(click.action),
        key=click.key,
        user=click.user,
        message=click.message,
        is_foreign=click.is_foreign,
        option=click.option,
        once=click.once,
        at=click.at,
    )


def _is_beside(verb: Verb, shown: Shown) -> bool:
    """Tell whether one press decides: all of the question stands beside the button, or it is denied."""
    return verb is Verb.DENY or (shown.is_whole and shown.is_brief)


def _wants_comment(comments: Comments, verb: Verb) -> bool:
    return comments == "always" or (comments == "deny" and verb is Verb.DENY)


def _meta(click: Click, word: str, shown: Shown) -> modals.Meta:
    place = click.message
    return modals.Meta(v=word, k=click.key.hex, c=place.channel, t=place.ts, b=place.is_ours, d=shown.digest)
