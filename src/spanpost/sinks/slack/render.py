"""How a task looks in Slack. Pure: no clock, so that an unchanged task renders to equal bytes and is not sent again.

The root message, top to bottom:

- rich text: status (emoji and word), name, progress bar and step. Always there.
- `plan`: steps and sub-agents as task cards while the task runs. What is done is folded into one card; a task that has ended has
  no plan.
- one attachment, for the colour that only attachments have: the open question, what it is doing, the failure, artifacts and
  links, a context that fills, and one line of small print with the figures.
- buttons that fit the state, where somebody hears of them.

`Style.PLAIN` says the same in plain sections, for a workspace that answers `invalid_blocks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from spanpost.domain.tasks import MERGED, Task
from spanpost.fold.redact import cut, line, link
from spanpost.sinks import words
from spanpost.sinks.slack import buttons, questions
from spanpost.sinks.slack.blocks import (
    BUDGET,
    Block,
    Element,
    card,
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
from spanpost.sinks.slack.guise import disarmed
from spanpost.sinks.slack.manner import Manner
from spanpost.tongues import ENGLISH, Tongue

#: Slack's own attachment colours, as Grafana OnCall uses them, and a blue.
COLOURS = {"red": "#a30200", "green": "#2eb886", "yellow": "#daa038", "blue": "#1d9bd1", "grey": "#dddddd"}
CARDS, ARTIFACTS, LINKS = 10, 3, 5
#: Of the host to which an agent's link leads: its label may say anything.
HOST: Final = 40
#: Names of what is done stand on one line, or are counted: so many, so many characters.
_NAMED, _NAMES = 8, 90
EVENT_TYPE = "spanpost_message"
ANONYMOUS: Final = Manner()


class Style(StrEnum):
    """RICH is what we like; PLAIN is what every workspace takes."""

    RICH = "rich"
    PLAIN = "plain"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A rendered message: what `chat.postMessage` and `chat.update` have in common."""

    text: str
    blocks: list[Block]
    attachments: list[dict[str, Any]] = []
    metadata: dict[str, Any] = {}
    style: Style = Style.RICH

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the call, channel and place left out."""
        return {"text": self.text, "blocks": self.blocks, "attachments": self.attachments, "metadata": self.metadata}


def root(
    task: Task,
    children: Sequence[Task] = (),
    *,
    key: str,
    generation: int = 0,
    style: Style = Style.RICH,
    manner: Manner = ANONYMOUS,
    elsewhere: str = "",
) -> Message:
    """Render a task's root message. `key` is the delivery's: with the generation it marks the message, so that it can be found again.

    Of a message that ended because its task goes on in another, `elsewhere` leads there.
    """
    asked = [(a, manner.question(a)) for a in task.open_approvals[:2]]
    task, children = manner.of_task(task), [manner.of_task(child) for child in children]
    if task.end_reason == MERGED:
        return _moved(task, marker(key, generation), style, manner, link(elsewhere, 300) or "")
    draw = _root_rich if style is Style.RICH else _root_plain
    # What fits is shown; what does not is left out from the bottom of a stated list, never cut in the middle of a block.
    for most in (1.0, 0.5, 0.25, 0.0):
        blocks, attachments = draw(task, children, asked, most, manner)
        if size([blocks, attachments]) <= BUDGET:
            break
    return Message(
        text=escape(cut(words.sentence(task, manner.tongue), 700)),
        blocks=blocks,
        attachments=attachments,
        metadata=marker(key, generation),
        style=style,
    )


def _moved(task: Task, metadata: dict[str, Any], style: Style, manner: Manner, elsewhere: str) -> Message:
    """Draw the end of a message that goes on in another, without buttons; its thread stays as it is."""
    tongue = manner.tongue
    look, name = words.task_look(task, tongue), titled(task, manner) if task.task_id else ""
    before = f"{look.emoji} {tongue.say('root.went_on_before' if name else 'root.was_other')}"
    after = tongue.say("root.went_on_after") if name else ""
    more = tongue.say("root.no_more")
    if style is Style.RICH:
        shown = rich(section(text(before), text(name, "bold", link=elsewhere), text(after)))
    else:
        shown = plain(f"{before}{name}{after}")
        more = f"{more} {elsewhere}".rstrip()
    said = _attachments([context(more)], look, task, manner)
    return Message(text=escape(f"{before}{name}{after}"), blocks=[shown], attachments=said, metadata=metadata, style=style)


def marker(key: str, generation: int = 0) -> dict[str, Any]:
    """Return the metadata by which a message is found again. Every app in the workspace can read it."""
    return {"event_type": EVENT_TYPE, "event_payload": {"k": key, "g": generation}}


def marked(metadata: Any) -> tuple[str, int] | None:
    """Return key and generation of a message's metadata; None when it is not a marker of ours."""
    if not isinstance(metadata, dict) or metadata.get("event_type") != EVENT_TYPE:
        return None
    payload = metadata.get("event_payload")
    if not isinstance(payload, dict) or not isinstance(payload.get("k"), str):
        return None
    generation = payload.get("g", 0)
    return payload["k"], generation if isinstance(generation, int) else 0


def titled(task: Task, manner: Manner, limit: int = 150) -> str:
    """Return a task's name with the route's prefix."""
    name = disarmed(words.title(task, limit, manner.tongue))
    return f"{manner.prefix} {name}" if manner.prefix else name


def _row(task: Task, manner: Manner, shown: object) -> list[Block]:
    """Return the buttons of the task itself."""
    if not manner.is_interactive:
        return []
    return rows((str(task.uid), buttons.of_task(task, manner.tongue, offers_retry=manner.retries(task))), below=[shown])


def _place(task: Task, tongue: Tongue) -> str:
    """Return how far a plan is, as its title."""
    if task.step_index and task.step_count:
        return tongue.say("root.step_of", index=task.step_index, count=task.step_count)
    return tongue.say("root.steps")


def _progress(task: Task, tongue: Tongue, *, has_step: bool = True) -> str:
    if words.is_final(task):
        return ""
    done = words.percent(task)
    step = disarmed(words.step(task, tongue=tongue)) if has_step else ""
    shown = [f"{words.bar(done / 100, 10)} {words.share(done, tongue)}"] if done is not None else []
    return "   ".join([*shown, step] if step else shown)


def _asides(task: Task, tongue: Tongue) -> str:
    """Return why it runs, and what people have asked of it that it has not heeded yet, or that changes what is told of it."""
    said = []
    if task.retry_of:
        said.append(tongue.say("root.retry_of", task=line(task.retry_of, 60)))
    if task.caused_by:
        said.append(tongue.say("root.caused_by", task=line(task.caused_by, 60)))
    if task.cancel_by and not words.is_final(task):
        said.append(tongue.say("root.cancelling", who=line(tongue.translate(task.messages.get("cancel_by"), task.cancel_by), 60)))
    if task.paused_by and task.status == "paused":
        said.append(tongue.say("root.paused_by", who=line(tongue.translate(task.messages.get("paused_by"), task.paused_by), 60)))
    if task.is_muted and not words.is_final(task):
        said.append(tongue.say("root.muted"))
    return ", ".join(said)


def _root_rich(
    task: Task, children: Sequence[Task], asked: questions.Asked, most: float, manner: Manner
) -> tuple[list[Block], list[dict[str, Any]]]:
    tongue = manner.tongue
    look, aside = words.task_look(task, tongue), _asides(task, tongue)
    head: list[Element] = [
        section(text(f"{look.emoji} "), text(titled(task, manner), "bold"), text(f"  {look.word}{f' ({aside})' if aside else ''}"))
    ]
    cards = cards_of(task, children, int(CARDS * most), tongue)
    has_steps = any(one["task_id"] == "s-now" for one in cards)
    if progress := _progress(task, tongue, has_step=not has_steps):
        head.append(section(text(progress)))
    blocks = [rich(*head)]
    if cards:
        blocks.append(plan(words.at_work(children, tongue) or _place(task, tongue), cards))
    body: list[Element] = []
    # Where the step under way has a card, what it is doing stands there; where agents have, the plan's title says it.
    is_said = has_steps or (bool(cards) and words.is_count_of_agents(task.messages.get("action")))
    if not is_said and not words.is_final(task) and (doing := disarmed(words.doing(task, 300, tongue))):
        body.append(section(text(doing, "italic")))
    body += _failure(task, tongue)
    body += _made(task, most, tongue)
    shown = _links(task, manner, int(LINKS * most) or 1)
    if shown:
        linked: list[Element] = [text("🔗 ")]
        for i, (name, url, where) in enumerate(shown):
            linked += [text("  ·  ")] * (i > 0) + [text(name, link=url)] + [text(f" ({where})")] * bool(where)
        body.append(section(*linked))
    if task.results and words.is_final(task):
        body.append(section(*_results(task, 8 if most else 3, tongue)))
    if warm := _warmth(task, tongue):
        body.append(section(text(warm)))
    below = questions.blocks_of(asked, manner, is_rich=True, has_room=most > 0.25)
    below += [rich(*body)] if body else []
    below.append(_small_print(task, children, manner))
    below += _row(task, manner, [blocks, below])
    return blocks, _attachments(below, look, task, manner)


def _root_plain(
    task: Task, children: Sequence[Task], asked: questions.Asked, most: float, manner: Manner
) -> tuple[list[Block], list[dict[str, Any]]]:
    tongue = manner.tongue
    look, aside = words.task_look(task, tongue), _asides(task, tongue)
    lines = [f"{look.emoji} {titled(task, manner)}: {look.word}{f' ({aside})' if aside else ''}", _progress(task, tongue)]
    if children and not words.is_final(task):
        lines.append(words.at_work(children, tongue))
        chosen = [c for c in children if not words.is_final(c) or c.status == "error"][: int(CARDS * most)]
        lines += [f"{words.task_look(c).emoji} {disarmed(words.title(c, 80, tongue))}" for c in chosen]
    below: list[str] = []
    if (doing := disarmed(words.doing(task, 300, tongue))) and not words.is_final(task):
        below.append(doing)
    if task.error and task.status == "error":
        below.append(disarmed(line(f"{task.error.type}: {words.failure(task, tongue)}".strip(": "), 500)))
    many = int(ARTIFACTS * most)
    below += [f"📎 {disarmed(line(a.name, 80))} {link(a.uri, 300) or ''}".rstrip() for a in task.artifacts[:many]]
    below += [f"🔗 {name} {url}" for name, url, _ in _links(task, manner, int(LINKS * most) or 1)]
    if task.results and words.is_final(task):
        below.append(
            "   ".join(f"{disarmed(name)} {disarmed(value)}" for name, value in words.results(task, 8 if most else 3, tongue))
        )
    if warm := _warmth(task, tongue):
        below.append(warm)
    sections = questions.blocks_of(asked, manner, is_rich=False, has_room=most > 0.25)
    sections += [plain(said) for said in ("\n".join(filter(None, below)),) if said]
    sections.append(_small_print(task, children, manner))
    sections += _row(task, manner, [lines, sections])
    return [plain("\n".join(filter(None, lines)))], _attachments(sections, look, task, manner)


def _attachments(blocks: list[Block], look: words.Look, task: Task, manner: Manner) -> list[dict[str, Any]]:
    return [{"color": COLOURS[look.colour], "fallback": escape(words.title(task, tongue=manner.tongue)), "blocks": blocks}]


def _failure(task: Task, tongue: Tongue) -> list[Element]:
    """The log's end stands in the thread, where it can be unfolded."""
    if task.error is None or task.status != "error":
        return []
    kind, why = disarmed(line(task.error.type, 80)), disarmed(line(words.failure(task, tongue), 500))
    return [section(text(kind, "bold"), text(": " if kind and why else ""), text(why))]


def _made(task: Task, most: float, tongue: Tongue) -> list[Element]:
    many = int(ARTIFACTS * most)
    made: list[Element] = []
    for artifact in task.artifacts[:many]:
        safe = link(artifact.uri, 300)
        name = disarmed(line(artifact.name, 80)) or tongue.say("root.artifact")
        about = " · ".join(filter(None, (disarmed(line(artifact.kind, 20)), words.host(safe or "", HOST))))
        made.append(section(text("📎 "), text(name, link=safe or ""), text(f"  {about}" if about else "")))
    if len(task.artifacts) > many:
        left = tongue.say("root.more", n=len(task.artifacts) - many)
        made.append(section(text(left if many else f"📎 {tongue.say('root.artifacts', n=len(task.artifacts))}")))
    return made


def _links(task: Task, manner: Manner, most: int) -> list[tuple[str, str, str]]:
    """Return the links that the settings make, then those that the agent gave, with the host to which they lead."""
    made = [(one.name, url, "") for one in manner.links if (url := one.filled(task)) is not None]
    known = {name for name, _, _ in made}
    given = [(disarmed(name), url, words.host(url, HOST)) for name, url in words.links(task, most) if name not in known]
    return [*made, *given][:most]


def _results(task: Task, most: int, tongue: Tongue) -> list[Element]:
    figures: list[Element] = []
    for i, (name, value) in enumerate(words.results(task, most, tongue)):
        figures += [text(f"{'   ' if i else ''}{disarmed(name)} "), text(disarmed(value), "bold")]
    return figures


def _warmth(task: Task, tongue: Tongue) -> str:
    """Return the line of a context that fills; while there is room it stands in the small print."""
    heat = words.heat(task)
    if not heat or words.is_final(task):
        return ""
    forecast = words.forecast(task, tongue)
    return f"{heat} {words.context_bar(task, tongue=tongue)}{f', {forecast}' if forecast else ''}"


def _small_print(task: Task, children: Sequence[Task], manner: Manner) -> Block:
    tongue = manner.tongue
    figures = words.figures(task, context=False, tongue=tongue)
    if not words.is_final(task) and not words.heat(task) and (cool := words.context_bar(task, is_short=True, tongue=tongue)):
        figures.insert(0, ", ".join(filter(None, (cool, words.forecast(task, tongue)))))
    together = words.with_children(task, children, tongue)
    said = (
        [manner.note] * bool(manner.note)
        + [disarmed(one) for one in words.byline(task, tongue=tongue)]
        # What belongs together stays on one line.
        + [figure.replace(" ", "\u00a0") for figure in (*figures, *([together] if together else ()))]
    )
    at = task.ended_at if words.is_final(task) else task.last_event_at
    heard: list[Element] = []
    if at is not None:
        form = "{date_short_pretty} {time}" if words.is_final(task) else "{time_secs}"
        word = tongue.say("root.ended" if words.is_final(task) else "root.heard", at=dated(at, form))
        heard.append(small_parsed(f"·  {word}" if said else word))
    nothing = [] if said or heard else [tongue.say("root.nothing_known")]
    return context(*(["  ·  ".join(said)] if said else []), *heard, *nothing)


_CARD: dict[str, str] = {"error": "error", "cancelled": "error", "complete": "complete"}


def cards_of(task: Task, children: Sequence[Task], most: int, tongue: Tongue = ENGLISH) -> list[Block]:
    """Return what is under way, and what went wrong; all that is done is one card."""
    if words.is_final(task):
        return []
    done, now = _steps(task, tongue)
    at_work = [c for c in children if c.status != "complete"]
    finished = [c for c in children if c.status == "complete"]
    cards = [*_fold(done, "step", tongue), *now, *(_child(child, tongue) for child in at_work[:most])]
    cards += _fold([words.title(c, 90, tongue) for c in finished], "agent", tongue)
    left = max(len(at_work) - most, 0)
    if len(cards) + left <= most:
        return cards
    kept = cards[: max(most - 1, 0)]
    return [*kept, card("more", tongue.say("root.more", n=len(cards) + left - len(kept)), "in_progress")] if most else []


def _fold(done: Sequence[str], what: str, tongue: Tongue) -> list[Block]:
    """Return one card for what is done: its names where they fit."""
    if not done:
        return []
    names = ", ".join(disarmed(line(name, 90)) or "?" for name in done[:_NAMED])
    if len(done) > _NAMED or len(names) > _NAMES:
        names = tongue.say("root.steps_done" if what == "step" else "figure.agents_done", n=len(done))
    return [card(f"done-{what}", names, "complete")]


def _child(child: Task, tongue: Tongue) -> Block:
    status = _CARD.get(child.status, "in_progress")
    look = words.task_look(child)
    title = disarmed(words.title(child, 90, tongue))
    if child.status in ("cancelled", "waiting", "stalled", "paused"):
        title = f"{look.emoji} {title}"
    doing = "" if words.is_final(child) else disarmed(words.doing(child, 100, tongue) or words.step(child, 80, tongue))
    return card(f"t-{child.uid.hex}", title, status, doing)


def _steps(task: Task, tongue: Tongue) -> tuple[list[str], list[Block]]:
    """Return the names of the steps that are done, and the card of the one under way. A lone step says nothing that the head does not."""
    if len(task.steps) < 2:
        return [], []
    is_now = [step.name == task.step_name and step.index == task.step_index for step in task.steps]
    done = [tongue.translate(step.message, step.name) for step, is_it in zip(task.steps, is_now, strict=True) if not is_it]
    now = max((i for i, is_it in enumerate(is_now) if is_it), default=None)
    if now is None:
        return done, []
    step = task.steps[now]
    name = disarmed(line(tongue.translate(step.message, step.name), 90)) or tongue.say("root.step", index=step.index or now + 1)
    return done, [card("s-now", name, "in_progress", disarmed(words.doing(task, 200, tongue)))]
