"""Renders a task in Slack.

Pure: without a clock, so that an unchanged task renders to equal bytes and is not sent.

The root message, top to bottom:

- rich text: status (emoji and word), name, progress bar and step. Always there.
- `plan`: steps and sub-agents as task cards while the task runs. Completed ones share one card; a task that has ended
  has no plan.
- one attachment, because only attachments have a colour: the open question, the current action, the failure, artifacts
  and links, a context that fills up, and one line of small print with the figures.
- buttons for the state, if somebody receives clicks.

`Style.PLAIN` has the same content in plain sections, for a workspace that answers `invalid_blocks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from spanpost.model.tasks import MERGED, Task
from spanpost.sinks import evaluation_labels, labels
from spanpost.sinks.cost_labels import cost_of_results
from spanpost.sinks.slack import buttons, questions
from spanpost.sinks.slack.blocks import (
    MAX_SIZE,
    Block,
    Element,
    context,
    dated,
    escape,
    plain,
    plan,
    rich,
    rows,
    section,
    size,
    small_parsed,
    text,
)
from spanpost.sinks.slack.cards import CARDS, cards_of
from spanpost.sinks.slack.impersonation import disarmed
from spanpost.sinks.slack.style import SlackStyle
from spanpost.text.locales import Locale
from spanpost.text.sanitise import cut, line, link

#: Slack's own attachment colours, as Grafana OnCall uses them, and a blue.
COLOURS = {"red": "#a30200", "green": "#2eb886", "yellow": "#daa038", "blue": "#1d9bd1", "grey": "#dddddd"}
ARTIFACTS, LINKS = 3, 5
#: Maximum length of the host that follows an agent's link, whose label may say anything.
HOST: Final = 40
EVENT_TYPE = "spanpost_message"
ANONYMOUS: Final = SlackStyle()


class Style(StrEnum):
    """RICH is the normal rendering; PLAIN works in every workspace."""

    RICH = "rich"
    PLAIN = "plain"


class SlackMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A rendered message: what `chat.postMessage` and `chat.update` have in common."""

    text: str
    blocks: list[Block]
    attachments: list[dict[str, Any]] = []
    metadata: dict[str, Any] = {}
    style: Style = Style.RICH

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the call, without channel and thread."""
        return {"text": self.text, "blocks": self.blocks, "attachments": self.attachments, "metadata": self.metadata}


def root(
    task: Task,
    children: Sequence[Task] = (),
    *,
    key: str,
    generation: int = 0,
    style: Style = Style.RICH,
    slack_style: SlackStyle = ANONYMOUS,
    moved_to: str = "",
) -> SlackMessage:
    """Render a task's root message.

    `key` is the delivery's: with the generation it marks the message for lookups.

    `moved_to` is the address of the message in which a merged task continues.
    """
    asked = [(a, slack_style.question(a)) for a in task.open_approvals[:2]]
    task, children = slack_style.of_task(task), [slack_style.of_task(child) for child in children]
    if task.end_reason == MERGED:
        return _moved(task, marker(key, generation), style, slack_style, link(moved_to, 300) or "")
    draw = _root_rich if style is Style.RICH else _root_plain
    # Show what fits; leave out the end of a list, and never cut a block.
    for most in (1.0, 0.5, 0.25, 0.0):
        blocks, attachments = draw(task, children, asked, most, slack_style)
        if size([blocks, attachments]) <= MAX_SIZE:
            break
    return SlackMessage(
        text=escape(cut(labels.sentence(task, slack_style.locale), 700)),
        blocks=blocks,
        attachments=attachments,
        metadata=marker(key, generation),
        style=style,
    )


def _moved(task: Task, metadata: dict[str, Any], style: Style, slack_style: SlackStyle, moved_to: str) -> SlackMessage:
    """Draw the end of a message that continues in another, without buttons; its thread stays as it is."""
    locale = slack_style.locale
    label, name = labels.task_label(task, locale), titled(task, slack_style) if task.task_id else ""
    before = f"{label.emoji} {locale.say('root.went_on_before' if name else 'root.was_other')}"
    after = locale.say("root.went_on_after") if name else ""
    more = locale.say("root.no_more")
    if style is Style.RICH:
        shown = rich(section(text(before), text(name, "bold", link=moved_to), text(after)))
    else:
        shown = plain(f"{before}{name}{after}")
        more = f"{more} {moved_to}".rstrip()
    said = _attachments([context(more)], label, task, slack_style)
    return SlackMessage(
        text=escape(f"{before}{name}{after}"), blocks=[shown], attachments=said, metadata=metadata, style=style
    )


def marker(key: str, generation: int = 0) -> dict[str, Any]:
    """Return the metadata that identifies a message. Every app in the workspace can read it."""
    return {"event_type": EVENT_TYPE, "event_payload": {"k": key, "g": generation}}


def marked(metadata: Any) -> tuple[str, int] | None:
    """Return key and generation from a message's metadata; None if it is not spanpost's."""
    if not isinstance(metadata, dict) or metadata.get("event_type") != EVENT_TYPE:
        return None
    payload = metadata.get("event_payload")
    if not isinstance(payload, dict) or not isinstance(payload.get("k"), str):
        return None
    generation = payload.get("g", 0)
    return payload["k"], generation if isinstance(generation, int) else 0


def titled(task: Task, slack_style: SlackStyle, limit: int = 150) -> str:
    """Return a task's name with the route's prefix."""
    name = disarmed(labels.title(task, limit, slack_style.locale))
    return f"{slack_style.prefix} {name}" if slack_style.prefix else name


def _row(task: Task, slack_style: SlackStyle, shown: object) -> list[Block]:
    """Return the buttons of the task itself."""
    if not slack_style.is_interactive:
        return []
    return rows(
        (str(task.uid), buttons.of_task(task, slack_style.locale, offers_retry=slack_style.retries(task))),
        below=[shown],
    )


def _place(task: Task, locale: Locale) -> str:
    """Return the progress through a plan, as its title."""
    if task.step_index and task.step_count:
        return locale.say("root.step_of", index=task.step_index, count=task.step_count)
    return locale.say("root.steps")


def _progress(task: Task, locale: Locale, *, has_step: bool = True) -> str:
    if labels.is_final(task):
        return ""
    done = labels.percent(task)
    step = disarmed(labels.step(task, locale=locale)) if has_step else ""
    shown = [f"{labels.bar(done / 100, 10)} {labels.share(done, locale)}"] if done is not None else []
    return "   ".join([*shown, step] if step else shown)


def _asides(task: Task, locale: Locale) -> str:
    """Return why the task runs, and interventions that are pending or change its messages."""
    said = []
    if task.retry_of:
        said.append(locale.say("root.retry_of", task=line(task.retry_of, 60)))
    if task.caused_by:
        said.append(locale.say("root.caused_by", task=line(task.caused_by, 60)))
    if task.cancel_by and not labels.is_final(task):
        said.append(
            locale.say(
                "root.cancelling", who=line(locale.translate(task.messages.get("cancel_by"), task.cancel_by), 60)
            )
        )
    if task.paused_by and task.status == "paused":
        said.append(
            locale.say("root.paused_by", who=line(locale.translate(task.messages.get("paused_by"), task.paused_by), 60))
        )
    if task.is_muted and not labels.is_final(task):
        said.append(locale.say("root.muted"))
    return ", ".join(said)


def _root_rich(
    task: Task, children: Sequence[Task], asked: questions.Asked, most: float, slack_style: SlackStyle
) -> tuple[list[Block], list[dict[str, Any]]]:
    locale = slack_style.locale
    label, aside = labels.task_label(task, locale), _asides(task, locale)
    head: list[Element] = [
        section(
            text(f"{label.emoji} "),
            text(titled(task, slack_style), "bold"),
            text(f"  {label.word}{f' ({aside})' if aside else ''}"),
        )
    ]
    cards = cards_of(task, children, int(CARDS * most), locale)
    has_steps = any(one["task_id"] == "s-now" for one in cards)
    if progress := _progress(task, locale, has_step=not has_steps):
        head.append(section(text(progress)))
    blocks = [rich(*head)]
    if cards:
        blocks.append(plan(labels.at_work(children, locale) or _place(task, locale), cards))
    body: list[Element] = []
    # A step's card shows its action; the plan's title counts the agents at work.
    is_said = has_steps or (bool(cards) and labels.is_count_of_agents(task.messages.get("action")))
    if not is_said and not labels.is_final(task) and (doing := disarmed(labels.doing(task, 300, locale))):
        body.append(section(text(doing, "italic")))
    body += _failure(task, locale)
    body += _made(task, most, locale)
    shown = _links(task, slack_style, int(LINKS * most) or 1)
    if shown:
        linked: list[Element] = [text("🔗 ")]
        for i, (name, url, where) in enumerate(shown):
            linked += [text("  ·  ")] * (i > 0) + [text(name, link=url)] + [text(f" ({where})")] * bool(where)
        body.append(section(*linked))
    if task.results and labels.is_final(task):
        body.append(section(*_results(task, 8 if most else 3, locale)))
    if spent := cost_of_results(task, children, locale):
        body.append(section(text(f"📎 {spent}")))
    if judged := _evaluations(task):
        body.append(section(text(judged)))
    if warm := _warmth(task, locale):
        body.append(section(text(warm)))
    below = questions.blocks_of(asked, slack_style, is_rich=True, has_space=most > 0.25)
    below += [rich(*body)] if body else []
    below.append(_small_print(task, children, slack_style))
    below += _row(task, slack_style, [blocks, below])
    return blocks, _attachments(below, label, task, slack_style)


def _root_plain(
    task: Task, children: Sequence[Task], asked: questions.Asked, most: float, slack_style: SlackStyle
) -> tuple[list[Block], list[dict[str, Any]]]:
    locale = slack_style.locale
    label, aside = labels.task_label(task, locale), _asides(task, locale)
    lines = [
        f"{label.emoji} {titled(task, slack_style)}: {label.word}{f' ({aside})' if aside else ''}",
        _progress(task, locale),
    ]
    if children and not labels.is_final(task):
        lines.append(labels.at_work(children, locale))
        chosen = [c for c in children if not labels.is_final(c) or c.status == "error"][: int(CARDS * most)]
        lines += [f"{labels.task_label(c).emoji} {disarmed(labels.title(c, 80, locale))}" for c in chosen]
    below: list[str] = []
    if (doing := disarmed(labels.doing(task, 300, locale))) and not labels.is_final(task):
        below.append(doing)
    if task.error and task.status == "error":
        below.append(disarmed(line(f"{task.error.type}: {labels.failure(task, locale)}".strip(": "), 500)))
    many = int(ARTIFACTS * most)
    below += [f"📎 {disarmed(line(a.name, 80))} {link(a.uri, 300) or ''}".rstrip() for a in task.artifacts[:many]]
    below += [f"🔗 {name} {url}" for name, url, _ in _links(task, slack_style, int(LINKS * most) or 1)]
    if task.results and labels.is_final(task):
        below.append(
            "   ".join(
                f"{disarmed(name)} {disarmed(value)}" for name, value in labels.results(task, 8 if most else 3, locale)
            )
        )
    if spent := cost_of_results(task, children, locale):
        below.append(f"📎 {spent}")
    if judged := _evaluations(task):
        below.append(judged)
    if warm := _warmth(task, locale):
        below.append(warm)
    sections = questions.blocks_of(asked, slack_style, is_rich=False, has_space=most > 0.25)
    sections += [plain(said) for said in ("\n".join(filter(None, below)),) if said]
    sections.append(_small_print(task, children, slack_style))
    sections += _row(task, slack_style, [lines, sections])
    return [plain("\n".join(filter(None, lines)))], _attachments(sections, label, task, slack_style)


def _attachments(
    blocks: list[Block], label: labels.StatusLabel, task: Task, slack_style: SlackStyle
) -> list[dict[str, Any]]:
    return [
        {
            "color": COLOURS[label.colour],
            "fallback": escape(labels.title(task, locale=slack_style.locale)),
            "blocks": blocks,
        }
    ]


def _failure(task: Task, locale: Locale) -> list[Element]:
    """Return the failure in one line. The log is in the thread, where it can be unfolded."""
    if task.error is None or task.status != "error":
        return []
    kind, why = disarmed(line(task.error.type, 80)), disarmed(line(labels.failure(task, locale), 500))
    return [section(text(kind, "bold"), text(": " if kind and why else ""), text(why))]


def _made(task: Task, most: float, locale: Locale) -> list[Element]:
    many = int(ARTIFACTS * most)
    made: list[Element] = []
    for artifact in task.artifacts[:many]:
        safe = link(artifact.uri, 300)
        name = disarmed(line(artifact.name, 80)) or locale.say("root.artifact")
        about = " · ".join(filter(None, (disarmed(line(artifact.kind, 20)), labels.host(safe or "", HOST))))
        made.append(section(text("📎 "), text(name, link=safe or ""), text(f"  {about}" if about else "")))
    if len(task.artifacts) > many:
        left = locale.say("root.more", n=len(task.artifacts) - many)
        made.append(section(text(left if many else f"📎 {locale.say('root.artifacts', n=len(task.artifacts))}")))
    return made


def _links(task: Task, slack_style: SlackStyle, most: int) -> list[tuple[str, str, str]]:
    """Return the links of the settings, then the agent's, with their hosts."""
    made = [(one.name, url, "") for one in slack_style.links if (url := one.filled(task)) is not None]
    known = {name for name, _, _ in made}
    given = [
        (disarmed(name), url, labels.host(url, HOST)) for name, url in labels.links(task, most) if name not in known
    ]
    return [*made, *given][:most]


def _results(task: Task, most: int, locale: Locale) -> list[Element]:
    figures: list[Element] = []
    for i, (name, value) in enumerate(labels.results(task, most, locale)):
        figures += [text(f"{'   ' if i else ''}{disarmed(name)} "), text(disarmed(value), "bold")]
    return figures


def _evaluations(task: Task) -> str:
    """Return people's ratings and evaluators' results in one line; their explanations are in the details."""
    return "  ·  ".join(
        filter(None, (evaluation_labels.ratings(task), *map(disarmed, evaluation_labels.results(task))))
    )


def _warmth(task: Task, locale: Locale) -> str:
    """Return the line of a context that fills up; until then the small print has it."""
    heat = labels.heat(task)
    if not heat or labels.is_final(task):
        return ""
    forecast = labels.forecast(task, locale)
    return f"{heat} {labels.context_bar(task, locale=locale)}{f', {forecast}' if forecast else ''}"


def _small_print(task: Task, children: Sequence[Task], slack_style: SlackStyle) -> Block:
    locale = slack_style.locale
    figures = labels.figures(task, context=False, locale=locale)
    if (
        not labels.is_final(task)
        and not labels.heat(task)
        and (cool := labels.context_bar(task, is_short=True, locale=locale))
    ):
        figures.insert(0, ", ".join(filter(None, (cool, labels.forecast(task, locale)))))
    together = labels.with_children(task, children, locale)
    said = (
        [slack_style.note] * bool(slack_style.note)
        + [disarmed(one) for one in labels.byline(task, locale=locale)]
        # Figures stay on one line.
        + [figure.replace(" ", "\u00a0") for figure in (*figures, *([together] if together else ()))]
    )
    at = task.ended_at if labels.is_final(task) else task.last_event_at
    last_event: list[Element] = []
    if at is not None:
        form = "{date_short_pretty} {time}" if labels.is_final(task) else "{time_secs}"
        word = locale.say("root.ended" if labels.is_final(task) else "root.last_seen", at=dated(at, form))
        last_event.append(small_parsed(f"·  {word}" if said else word))
    nothing = [] if said or last_event else [locale.say("root.nothing_known")]
    return context(*(["  ·  ".join(said)] if said else []), *last_event, *nothing)
