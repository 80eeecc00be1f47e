"""Starting work by a dialogue: the launcher, then the parameters that it declares. Faults stand at their fields."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from spanpost.interactions.acts import Interactions
from spanpost.interactions.protocols import PersonMessage
from spanpost.interactions.requested_acts import Start, WrongParameters
from spanpost.interactions.slack import modals
from spanpost.interactions.slack.modals import plain
from spanpost.interactions.slack.payloads import PREFIX, Submission
from spanpost.interactions.slack.phrases import RUN
from spanpost.interactions.texts import done
from spanpost.model.interventions import Result, Verb
from spanpost.model.messages import LocaleMessage
from spanpost.routing.parameters import Parameter, sentence_of
from spanpost.sinks.slack.blocks import escape
from spanpost.text.locales import ENGLISH, Locale

START: Final = PREFIX + "start"
#: Blocks: the choice of a launcher, the text, and a parameter by its name.
_LAUNCHER, _TEXT, _PARAMETER = "launcher", "text", "parameter:"
#: Slack's limits: options of a list, and characters of a text field.
_MOST_OPTIONS: Final = 100
_MOST_TEXT: Final = 3_000


class StartMeta(msgspec.Struct, frozen=True):
    """Private metadata of the dialogue."""

    #: The launcher; empty while it is chosen.
    l: str = ""  # noqa: E741
    #: The channel of the command, for the language.
    c: str = ""
    #: The words of the command.
    t: str = ""


async def startable(interactions: Interactions, user: str, message: PersonMessage) -> list[str]:
    """Return the launchers that a user may start."""
    known = sorted(interactions.launches.launchers)
    rulings = await asyncio.gather(*(interactions.may_start(name, user, message) for name in known))
    return [name for name, ruling in zip(known, rulings, strict=True) if ruling.is_granted]


def run_buttons(work: Mapping[str, str], may: Sequence[str], locale: Locale) -> list[dict[str, Any]]:
    """Return buttons that start launchers, of those that a user may start, with the work of each."""
    return [
        {
            "type": "button",
            "action_id": f"{RUN}:{i}",
            "text": plain(locale.say("start.run", launcher=name), 75),
            "value": f"{name} {text}"[:2_000],
        }
        for i, (name, text) in enumerate(work.items())
        if name in may
    ]


def chooser(launchers: Sequence[str], meta: StartMeta, locale: Locale = ENGLISH) -> dict[str, Any]:
    """Return the dialogue that asks for a launcher."""
    options = [{"text": plain(name, 75), "value": name} for name in launchers[:_MOST_OPTIONS]]
    element = {"type": "static_select", "action_id": "value", "options": options, "initial_option": options[0]}
    block = {"type": "input", "block_id": _LAUNCHER, "label": plain(locale.say("start.launcher")), "element": element}
    return _dialogue(meta, locale.say("start.next"), [block], locale)


def form(meta: StartMeta, declared: Sequence[Parameter], locale: Locale = ENGLISH) -> dict[str, Any]:
    """Return the dialogue that asks for the work and for the declared parameters of a launcher."""
    text: dict[str, Any] = {
        "type": "plain_text_input", "action_id": "value", "multiline": True, "max_length": _MOST_TEXT,
    }  # fmt: skip
    text |= {"initial_value": meta.t[:_MOST_TEXT]} if meta.t else {}
    label = plain(locale.say("start.text"))
    blocks = [{"type": "input", "block_id": _TEXT, "optional": True, "label": label, "element": text}]
    blocks += [_field(one, locale) for one in declared]
    head = {
        "type": "context",
        "elements": [{"type": "plain_text", "text": f"{locale.say('start.launcher')}: {meta.l}"}],
    }
    return _dialogue(msgspec.structs.replace(meta, t=""), locale.say("start.submit"), [head, *blocks], locale)


def _field(one: Parameter, locale: Locale) -> dict[str, Any]:
    element: dict[str, Any]
    if one.kind == "choice":
        options = {choice: {"text": plain(choice, 75), "value": choice} for choice in one.choices}
        element = {"type": "static_select", "placeholder": plain(locale.say("start.choose"))}
        element |= {"options": list(options.values())}
        element |= {"initial_option": options[one.default]} if one.default in options else {}
    else:
        element = {"type": "plain_text_input"} | ({"initial_value": one.default} if one.default else {})
    field: dict[str, Any] = {
        "type": "input",
        "block_id": f"{_PARAMETER}{one.name}",
        "optional": not one.required,
        "label": plain(one.label or one.name),
        "element": {**element, "action_id": "value"},
    }
    hint = " ".join(filter(None, (one.hint, _bounds(one, locale))))
    return field | ({"hint": plain(hint)} if hint else {})


def _bounds(one: Parameter, locale: Locale) -> str:
    """Return the range of a number, in words."""
    if one.kind != "number":
        return ""
    least = f"{one.minimum:g}" if one.minimum is not None else "…"
    most = f"{one.maximum:g}" if one.maximum is not None else "…"
    return locale.say("start.number") if least == most == "…" else locale.say("start.range", least=least, most=most)


def _dialogue(meta: StartMeta, submit: str, blocks: list[dict[str, Any]], locale: Locale) -> dict[str, Any]:
    return {
        "type": "modal",
        "callback_id": START,
        "private_metadata": msgspec.json.encode(meta).decode(),
        "title": plain(locale.say("start.title"), 24),
        "submit": plain(submit, 24),
        "close": plain(locale.say("show.close"), 24),
        "blocks": blocks,
    }


async def submitted(interactions: Interactions, sent: Submission, locale: Locale) -> dict[str, Any] | None:
    """Carry out a submitted dialogue, and return the answer to Slack; None for one that is not ours.

    Raises `StoreUnavailable`: nothing was started.
    """
    try:
        meta = msgspec.convert(sent.meta, StartMeta)
    except msgspec.ValidationError:
        return None
    launcher = meta.l or sent.fields.get(_LAUNCHER, "")
    message = PersonMessage(team=sent.team, channel="", ts="")
    declared = interactions.launches.declared(launcher)
    if not meta.l:
        # Which parameters a launcher has is shown to people who may start it.
        may = not sent.is_foreign and (await interactions.may_start(launcher, sent.user, message)).is_granted
        if may and launcher in interactions.launches.launchers:
            chosen = msgspec.structs.replace(meta, l=launcher)
            return {"response_action": "update", "view": form(chosen, declared, locale)}
    order = Start(
        launcher=launcher,
        text=sent.fields.get(_TEXT, ""),
        parameters={
            block.removeprefix(_PARAMETER): value
            for block, value in sent.fields.items()
            if block.startswith(_PARAMETER) and value
        },
        user=sent.user,
        message=message,
        is_foreign=sent.is_foreign,
        idempotency_key=sent.idempotency_key,
        at=datetime.now(UTC),
    )
    try:
        outcome = await interactions.start(order, locale=locale)
    except WrongParameters as wrong:
        return {"response_action": "errors", "errors": _at_fields(wrong.faults, declared, locale)}
    assert outcome.verdict is not None
    is_done = outcome.result is Result.DONE
    said = escape(done(Verb.START, outcome.verdict, launcher, locale)) if is_done else outcome.answer
    return {"response_action": "update", "view": modals.notice(said, locale, title="start.title")}


def _at_fields(faults: Mapping[str, LocaleMessage], declared: Sequence[Parameter], locale: Locale) -> dict[str, str]:
    """Return the faults by block. One of a parameter without a field stands at the text."""
    names = {one.name for one in declared}
    found: dict[str, str] = {}
    for name, fault in faults.items():
        if name in names:
            said = locale.tell(fault)
            found[f"{_PARAMETER}{name}"] = f"{said[:1].upper()}{said[1:]}."
        else:
            found[_TEXT] = sentence_of({name: fault}, locale.tell)
    return found


def unsaved(sent: Submission, locale: Locale) -> dict[str, Any]:
    """Return the answer where the database could not be reached."""
    block = _LAUNCHER if _LAUNCHER in sent.fields else _TEXT
    return {"response_action": "errors", "errors": {block: locale.say("interactions.unsure")}}
