"""Dialogues: a whole question with its decision, a comment, and a task's details. All text is literal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from spanpost.interactions.slack.payloads import PREFIX
from spanpost.model.interventions import Verb
from spanpost.model.standing_approvals import Scope
from spanpost.model.tasks import Task
from spanpost.sinks import evaluation_labels
from spanpost.tasks import failures
from spanpost.tasks.titles import title
from spanpost.text.legible import ShownText, pieces
from spanpost.text.locales import ENGLISH, Locale
from spanpost.text.locales.questions import why_hidden
from spanpost.text.sanitise import cut, line

DECISION: Final = PREFIX + "decision"
DETAILS: Final = PREFIX + "details"
#: Slack's limits (docs.slack.dev/reference/block-kit, 2026-08).
_MOST_COMMENT: Final = 3_000
_MOST_BLOCKS: Final = 90
_MOST_SECTION: Final = 2_900
_MOST_RADIO: Final = 10
#: How long an alert may be silenced; `morning` is tomorrow at nine.
SILENCES: Final = ("1h", "4h", "morning")


class Meta(msgspec.Struct, frozen=True):
    """Private metadata of a dialogue."""

    #: The pressed button; ``read`` if the decision is chosen in the dialogue.
    v: str
    #: The question's key, the message's channel and timestamp, and whether spanpost wrote the message.
    k: str
    c: str
    t: str
    b: bool = False
    #: Digest of the question as the dialogue shows it.
    d: str = ""
    #: It was opened in the person's Home.
    h: bool = False


def comment(meta: Meta, shown: ShownText, locale: Locale = ENGLISH, *, option: int | None = None) -> dict[str, Any]:
    """Return the dialogue for a comment.

    Its metadata holds the pressed button, judged again on submission.
    """
    is_denied = meta.v == Verb.DENY
    title = locale.say(f"button.{meta.v}" if meta.v in (Verb.APPROVE, Verb.DENY) else "button.answer")
    said = line(shown.question, 500) + (f"\n→ {shown.options[option]}" if option is not None else "")
    blocks = [_section(said)] if said else []
    return _form(meta, title, title, [*blocks, _comment("show.why" if is_denied else "show.comment", locale)], locale)


def rating(meta: Meta, said: str, locale: Locale = ENGLISH) -> dict[str, Any]:
    """Return the dialogue for the comment of a rating. Without a comment it rates all the same."""
    title = locale.say(f"rate.{said}")
    return _form(meta, title, locale.say("rate.send"), [_comment(f"rate.why_{said}", locale)], locale)


def grant(
    meta: Meta, shown: ShownText, scope: Scope, task: Task, always_for: timedelta, locale: Locale = ENGLISH
) -> dict[str, Any]:
    """Return the dialogue that says what a standing approval would cover, and takes its reason."""
    title = locale.say(f"button.allow_{scope}")
    place = line(task.repo or task.service or "", 200)
    what = locale.say("grant.what", tool=shown.tool, agent=line(task.agent_name or "", 100), place=place)
    until = locale.say("grant.hour") if scope is Scope.HOUR else locale.say("grant.always", n=always_for.days)
    risk = locale.say("grant.risk", risk=shown.risk) if shown.risk else locale.say("grant.no_risk")
    blocks = [_section(line(shown.question, 500)), {"type": "divider"}, _section(f"{what}\n{until}\n{risk}")]
    return _form(meta, title, locale.say("button.approve"), [*blocks, _comment("show.reason", locale)], locale)


def decision(
    meta: Meta, shown: ShownText, verbs: Sequence[Verb], locale: Locale = ENGLISH, *, further: bool = False
) -> dict[str, Any]:
    """Return the dialogue that shows a whole question and takes its decision.

    Text from an agent is quoted. The decision is chosen below it, so that nobody submits it before reading
    down to there. If there is nothing to choose, submitting denies. `further`: an approval may go further than
    this question.
    """
    blocks = [_section(f"⚠️ {why_hidden(shown.hidden, locale)}")] if shown.hidden else []
    blocks += _quoted("show.question", shown.question, locale) + _quoted("show.details", shown.detail, locale)
    blocks += _quoted("show.tool", shown.tool, locale) + _quoted("show.risk", shown.risk, locale)
    listed = "\n".join(f"{n}. {option}" for n, option in enumerate(shown.options, 1))
    blocks += _quoted("show.options", listed, locale)
    title = locale.say("show.read")
    if tuple(verbs) == (Verb.DENY,):
        meta = msgspec.structs.replace(meta, v=str(Verb.DENY))
        return _form(meta, title, locale.say("button.deny"), [*blocks, _comment("show.why", locale)], locale)
    labels = {Verb.APPROVE: locale.say("button.approve"), Verb.DENY: locale.say("button.deny")}
    choices = {str(verb): label for verb, label in labels.items() if verb in verbs}
    if further and Verb.APPROVE in verbs:
        named = {scope: f"{Verb.APPROVE}:{scope}" if scope is not Scope.ONCE else str(Verb.APPROVE) for scope in Scope}
        allowed = {value: locale.say(f"button.allow_{scope}") for scope, value in named.items()}
        choices = allowed | {value: label for value, label in choices.items() if value != Verb.APPROVE}
    if Verb.CHOOSE in verbs:
        choices |= {f"{Verb.CHOOSE}:{n}": f"{n + 1}. {option}" for n, option in enumerate(shown.options)}
    blocks += [{"type": "divider"}, _choice(choices, locale), _comment("show.comment", locale)]
    return _form(meta, title, locale.say("button.answer"), blocks, locale)


def _form(meta: Meta, title: str, submit: str, blocks: list[dict[str, Any]], locale: Locale) -> dict[str, Any]:
    return {
        "type": "modal",
        "callback_id": DECISION,
        "private_metadata": msgspec.json.encode(meta).decode(),
        "title": plain(title, 24),
        "submit": plain(submit, 24),
        "close": plain(locale.say("button.back"), 24),
        "blocks": blocks,
    }


def silence(meta: Meta, name: str, locale: Locale = ENGLISH) -> dict[str, Any]:
    """Return the dialogue that asks how long an alert is to be silenced; `name` is the alert's."""
    choices = {word: locale.say(f"show.silence_{word}") for word in SILENCES}
    options = [{"text": plain(label, 75), "value": word} for word, label in choices.items()]
    element = {
        "type": "radio_buttons", "action_id": "choice", "options": options, "initial_option": options[0]
    }  # fmt: skip
    chosen = {
        "type": "input",
        "block_id": "choice",
        "label": plain(locale.say("show.silence_for")),
        "element": element,
    }
    blocks = [_section(line(name, 200)), chosen, _comment("show.silence_comment", locale)]
    return _form(meta, locale.say("show.silence"), locale.say("button.silence_now"), blocks, locale)


def _choice(choices: Mapping[str, str], locale: Locale) -> dict[str, Any]:
    options = [{"text": plain(label, 75), "value": value} for value, label in choices.items()]
    element: dict[str, Any] = {"type": "radio_buttons", "action_id": "choice", "options": options}
    if len(options) > _MOST_RADIO:
        element |= {"type": "static_select", "placeholder": plain(locale.say("button.choose"))}
    return {"type": "input", "block_id": "choice", "label": plain(locale.say("show.decision")), "element": element}


def _comment(label: str, locale: Locale) -> dict[str, Any]:
    text = {"type": "plain_text_input", "action_id": "text", "multiline": True, "max_length": _MOST_COMMENT}
    return {
        "type": "input",
        "block_id": "comment",
        "optional": True,
        "label": plain(locale.say(label)),
        "element": text,
    }


def _quoted(title: str, said: str, locale: Locale) -> list[dict[str, Any]]:
    """Return foreign text whole, quoted below a title of ours."""
    made: list[dict[str, Any]] = []
    for piece in pieces(said, _MOST_SECTION):
        made.append(
            {"type": "rich_text_quote", "elements": [{"type": "text", "text": piece.removesuffix("\n") or " "}]}
        )
    if not made:
        return []
    head = {"type": "text", "text": locale.say(title), "style": {"bold": True}}
    first = {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [head]}, made[0]]}
    return [first, *({"type": "rich_text", "elements": [one]} for one in made[1:])]


def notice(text: str, locale: Locale = ENGLISH, *, title: str = "show.answer") -> dict[str, Any]:
    """Return a dialogue with one text (mrkdwn, ours)."""
    block = {"type": "section", "text": {"type": "mrkdwn", "text": text[:3000]}}
    return {
        "type": "modal",
        "callback_id": DETAILS,
        "title": plain(locale.say(title), 24),
        "close": plain(locale.say("show.close"), 24),
        "blocks": [block],
    }


def details(task: Task, locale: Locale = ENGLISH) -> dict[str, Any]:
    """Return a dialogue with a task's details."""
    parts = [_section(text) for text in texts(task, locale) if text][:_MOST_BLOCKS]
    return {
        "type": "modal",
        "callback_id": DETAILS,
        "title": plain(locale.say("show.title"), 24),
        "close": plain(locale.say("show.close"), 24),
        "blocks": parts or [_section(locale.say("show.nothing"))],
    }


def texts(task: Task, locale: Locale = ENGLISH) -> list[str]:
    """Return a task's details, literal: the summary first, then results, steps, questions and error."""

    def said(field: str, text: str) -> str:
        return locale.translate(task.messages.get(field), text)

    # Without logs and the details of questions: a route decides whether Slack shows those.
    status = locale.word(f"status.{task.shown_status}", task.status)
    facts = {
        "show.task": title(task),
        "show.id": line(task.task_id, 200),
        "show.status": locale.say("show.inferred", status=status) if task.is_inferred else status,
        "show.agent": " ".join(filter(None, (line(task.agent_name or "", 100), line(task.agent_version or "", 40)))),
        "show.requested_by": line(task.requested_by or "", 200),
        "show.doing": line(said("action", task.action or ""), 300),
        "show.step": line(said("step_name", task.step_name or ""), 200),
        "show.repo": line(task.repo or "", 200),
        "show.service": " ".join(filter(None, (line(task.service or "", 100), line(task.environment or "", 60)))),
        "show.started": _time(task.started_at),
        "show.ended": _time(task.ended_at),
        "show.last_seen": _time(task.last_event_at),
        "show.model": line(task.model or "", 120),
    }
    parts = [locale.say(key, value=value) for key, value in facts.items() if value]
    parts.append(locale.say("show.calls", models=task.llm_calls, tools=task.tool_calls, failed=task.tool_errors))
    if tokens := _tokens(task, locale):
        parts.append(locale.say("show.tokens", value=tokens))
    if task.cost_usd is not None:
        parts.append(locale.say("show.cost", value=f"{task.cost_usd:f}"))
    if task.trace_id:
        parts.append(locale.say("show.trace", value=task.trace_id.hex()))
    found = ["\n".join(parts)]
    found.append(
        "\n".join(f"{line(name, 60)}: {line(str(value), 200)}" for name, value in list(task.results.items())[:30])
    )
    steps = [
        f"{step.index or i + 1}. {line(locale.translate(step.message, step.name), 150)}"
        for i, step in enumerate(task.steps[:40])
    ]
    found.append(f"{locale.say('show.steps')}\n" + "\n".join(steps) if steps else "")
    for approval in task.approvals[-10:]:
        answer = approval.decision or locale.say("show.open")
        if approval.by:
            answer = locale.say("show.answered_by", decision=approval.decision, by=approval.by)
        asked = locale.say("show.asked", value=line(approval.question, 400))
        found.append(
            "\n".join(
                filter(None, (asked, locale.say("show.answered", value=line(answer, 200)), line(approval.comment, 500)))
            )
        )
    found.append("\n".join(evaluation_labels.details(task)))
    if task.error is not None:
        found.append(failures.said(task.error.type, line(said("error", task.error.message), 600)))
    return [cut(text, _MOST_SECTION) for text in found]


def _tokens(task: Task, locale: Locale) -> str:
    figures = {
        "show.tokens_in": task.input_tokens,
        "show.tokens_out": task.output_tokens,
        "show.tokens_cached": task.cache_read_tokens,
    }
    parts = [locale.say(key, n=n) for key, n in figures.items() if n is not None]
    if task.context_share is not None:
        parts.append(locale.say("show.context", share=task.context_share))
    return ", ".join(parts)


def _time(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at is not None else ""


def _section(text: str) -> dict[str, Any]:
    # Rich text has only explicit mentions and links, so text from agents stays literal.
    parts = [{"type": "rich_text_section", "elements": [{"type": "text", "text": text}]}]
    return {"type": "rich_text", "elements": parts}


def plain(text: str, limit: int = 150) -> dict[str, Any]:
    """Return plain text of Slack, cut to a limit of characters."""
    return {"type": "plain_text", "text": cut(text, limit)}


def read(meta: dict[str, Any]) -> Meta | None:
    """Read a dialogue's metadata; None if it is not ours."""
    try:
        return msgspec.convert(meta, Meta)
    except msgspec.ValidationError:
        return None
