"""Renders an alert in Slack: a message of its own, or a reply in the thread of the task that it names.

First the name, who looks after it, its silence and the buttons; then the problem, what to do, the links, and
small print: since when, or how long it lasted. The colour is the severity's; a resolved alert is green. All text
is foreign and shown literally.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spanpost.model.alerts import Alert
from spanpost.model.tasks import Task
from spanpost.readers import alerts
from spanpost.sinks import labels
from spanpost.sinks.headline import agents
from spanpost.sinks.slack import buttons
from spanpost.sinks.slack.blocks import (
    MAX_SIZE,
    Block,
    Element,
    context,
    dated,
    escape,
    mention,
    plain,
    plain_mentions,
    plan,
    quote,
    rich,
    rows,
    section,
    size,
    small_parsed,
    text,
)
from spanpost.sinks.slack.cards import CARDS, cards_of
from spanpost.sinks.slack.impersonation import disarmed
from spanpost.sinks.slack.render import ANONYMOUS, COLOURS, SlackMessage, Style, marker
from spanpost.sinks.slack.style import SlackStyle
from spanpost.text.locales import Locale
from spanpost.text.sanitise import cut, line, link, paragraph

#: Sign and colour by severity.
_SIGNS: Final = {"critical": ("🔥", "red"), "warning": ("⚠️", "yellow"), "info": ("🔔", "blue")}
_OVER: Final = ("✅", "green")
_DAY: Final = "{date_short_pretty} {time}"
_LABELS: Final = 8
#: Labels that are shown elsewhere, or that the thread already names.
_SAID: Final = frozenset({"alertname", "severity", "task_id", "trace_id"})


def root(
    alert: Alert,
    task: Task,
    children: Sequence[Task] = (),
    *,
    key: str,
    generation: int = 0,
    style: Style = Style.RICH,
    slack_style: SlackStyle = ANONYMOUS,
) -> SlackMessage:
    """Render an alert that names no task: a message, edited when it resolves. Tasks that work on it have cards."""
    made = [slack_style.of_task(child) for child in children]
    cards = cards_of(slack_style.of_task(task), made, CARDS, slack_style.locale) if style is Style.RICH else []
    below = [plan(agents(task, made, slack_style.locale), cards)] if cards and not alert.is_resolved else []
    return _drawn(slack_style.of_alert(alert), "", below, marker(key, generation), style, slack_style)


def reply(
    alert: Alert,
    task: Task,
    *,
    key: str,
    is_root: bool = True,
    style: Style = Style.RICH,
    slack_style: SlackStyle = ANONYMOUS,
) -> SlackMessage:
    """Render an alert as a reply in its task's thread, edited when it resolves."""
    who = "" if is_root else f"{disarmed(labels.title(slack_style.of_task(task), 80, slack_style.locale))}: "
    return _drawn(slack_style.of_alert(alert), who, [], marker(key), style, slack_style)


def _drawn(
    alert: Alert, who: str, below: list[Block], metadata: dict[str, object], style: Style, slack_style: SlackStyle
) -> SlackMessage:
    below = [*_by_people(alert, slack_style.locale), *below]
    if slack_style.is_interactive:
        offered = buttons.of_alert(alert, slack_style.locale, can_silence=slack_style.silences(alert))
        below += rows((str(alert.id), offered), below=below)
    for most in (1_500, 500, 0):
        blocks, inner = (_rich if style is Style.RICH else _plain)(alert, who, most, slack_style)
        if size([blocks, inner, below]) <= MAX_SIZE:
            break
    _, colour = _sign(alert)
    summary = f"{_sign(alert)[0]} {who}{_line(alert, slack_style.locale)}"
    attachment = {"color": COLOURS[colour], "fallback": escape(cut(summary, 200)), "blocks": inner}
    return SlackMessage(
        text=escape(cut(summary, 700)),
        blocks=[*blocks, *below],
        attachments=[attachment],
        metadata=metadata,
        style=style,
    )


def _sign(alert: Alert) -> tuple[str, str]:
    return _OVER if alert.is_resolved else _SIGNS[alerts.severity_of(alert.severity)]


def _name(alert: Alert, locale: Locale, limit: int = 150) -> str:
    return disarmed(line(alert.name, limit)) or locale.say("alert.unnamed")


def _line(alert: Alert, locale: Locale) -> str:
    """Return an alert in one line, as `tasks.occurrences` does."""
    severity, name, summary = line(alert.severity, 40), _name(alert, locale), _summary(alert)
    head = locale.say("alert.resolved") if alert.is_resolved else severity or locale.say("alert.head")
    return f"{head.capitalize()} · {f'{name}: {summary}' if summary and summary != name else name}"


def _summary(alert: Alert) -> str:
    return disarmed(line(alert.summary, 400))


def _state(alert: Alert, locale: Locale) -> str:
    if alert.is_resolved:
        return locale.say("alert.resolved")
    return disarmed(line(alert.severity, 40)) or locale.say("alert.firing")


def _rich(alert: Alert, who: str, most: int, slack_style: SlackStyle) -> tuple[list[Block], list[Block]]:
    sign, _ = _sign(alert)
    prefix = f"{slack_style.prefix} " if slack_style.prefix and not who else ""
    head: list[Element] = [
        text(f"{sign} {prefix}{who}"),
        text(_name(alert, slack_style.locale), "bold"),
        text(f"  {_state(alert, slack_style.locale)}"),
    ]
    for one in _calls(alert, slack_style):
        head += [text("  "), mention(one)]
    body: list[Element] = []
    if summary := _summary(alert):
        body.append(section(text(summary, *(() if alert.is_resolved else ("bold",)))))
    if (todo := paragraph(alert.description, most)) and not alert.is_resolved and most:
        body.append(quote(disarmed(todo)))
    if shown := _links(alert):
        linked: list[Element] = [text("🔗 ")]
        for i, (name, url) in enumerate(shown):
            linked += [text("  ·  ")] * (i > 0) + [text(name, link=url)]
        body.append(section(*linked))
    inner = [rich(*body)] if body else []
    inner.append(_small_print(alert, slack_style))
    return [rich(section(*head))], inner


def _plain(alert: Alert, who: str, most: int, slack_style: SlackStyle) -> tuple[list[Block], list[Block]]:
    sign, _ = _sign(alert)
    prefix = f"{slack_style.prefix} " if slack_style.prefix and not who else ""
    head = [plain(f"{sign} {prefix}{who}{_name(alert, slack_style.locale)}: {_state(alert, slack_style.locale)}")]
    if calls := _calls(alert, slack_style):
        head.append(plain_mentions(calls))
    said = [_summary(alert)]
    said += [disarmed(paragraph(alert.description, most))] if most and not alert.is_resolved else []
    said += [f"🔗 {name} {url}" for name, url in _links(alert)]
    whole = "\n".join(filter(None, said))
    return head, [*([plain(cut(whole, 3_000))] if whole else []), _small_print(alert, slack_style)]


def _calls(alert: Alert, slack_style: SlackStyle) -> tuple[str, ...]:
    """Return who is called: for what is critical, while it is, until somebody looks after it."""
    is_seen = bool(alert.acknowledged_by) or (alert.silence is not None and alert.silence.is_set)
    is_calling = not alert.is_resolved and not is_seen and alerts.severity_of(alert.severity) == "critical"
    return slack_style.mention if is_calling else ()


def _links(alert: Alert) -> list[tuple[str, str]]:
    return [(name, safe) for name, url in alert.links.items() if (safe := link(url)) is not None]


def _by_people(alert: Alert, locale: Locale) -> list[Block]:
    """Return what people did: who looks after it, and its silence or why there is none."""
    said: list[str | Element] = []
    if alert.acknowledged_by:
        said.append(locale.say("alert.acknowledged", by=_person(alert.acknowledged_by)))
    silence = alert.silence
    if silence is not None and silence.is_set:
        said.append(locale.say("alert.silenced", by=_person(silence.by), id=line(silence.id, 60)))
        said.append(small_parsed(locale.say("alert.silenced_until", at=dated(silence.until, _DAY))))
    if silence is not None and silence.failure is not None and not alert.is_resolved:
        why = locale.say(f"alert.failed_{silence.failure}")
        key = "alert.still_silenced" if silence.is_set else "alert.not_silenced"
        said.append(locale.say(key, why=why, by=_person(silence.by)))
    return [context(*said)] if said else []


def _person(name: str) -> str:
    return disarmed(line(name, 80))


def _small_print(alert: Alert, slack_style: SlackStyle) -> Block:
    locale = slack_style.locale
    named = sorted((name, value) for name, value in alert.labels.items() if name not in _SAID and value)
    said = [slack_style.note] if slack_style.note else []
    said += [f"{disarmed(line(name, 40))}={disarmed(line(value, 60))}" for name, value in named[:_LABELS]]
    if len(named) > _LABELS:
        said.append(locale.say("root.more", n=len(named) - _LABELS))
    if alert.ends_at is not None:
        said.append(locale.say("alert.after", time=labels.elapsed(alert.ends_at - alert.starts_at, locale)))
        when = locale.say("alert.resolved_at", at=dated(alert.ends_at, _DAY))
    else:
        when = locale.say("alert.since", at=dated(alert.starts_at, _DAY))
    return context(*(["  ·  ".join(said)] if said else []), small_parsed(f"·  {when}" if said else when))
