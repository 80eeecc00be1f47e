"""The foot of a task's message: one line of small print, and one row of buttons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spanpost.model.tasks import Task
from spanpost.sinks import labels
from spanpost.sinks.headline import family
from spanpost.sinks.loop_label import loop
from spanpost.sinks.slack import buttons, questions
from spanpost.sinks.slack.blocks import Block, Element, context, dated, plain, rich, rows, small_parsed
from spanpost.sinks.slack.impersonation import disarmed
from spanpost.sinks.slack.style import SlackStyle
from spanpost.text.locales import Locale

#: Answers that share a row with the task's own buttons, at most.
_IN_ONE_ROW: Final = 3
#: Share of the context window from which it is shown.
HALF: Final = 0.5
DAY: Final = "{date_short_pretty} {time}"
#: Slack keeps the time that has passed up to date without an edit.
SINCE: Final = "{time} ({ago})"


def button_rows(
    task: Task, asked: questions.Asked, slack_style: SlackStyle, shown: object, *, is_rich: bool, has_space: bool
) -> list[Block]:
    """Return the buttons: those of the first question in one row with the task's own, if they fit into it."""
    locale = slack_style.locale
    own = buttons.of_task(
        task,
        locale,
        offers_retry=slack_style.retries(task),
        links=slack_style.linked(task),
        is_asking=bool(asked[0]),
    )
    shown_questions = asked[0]
    answers = [
        buttons.of_question(one.approval, one.shown, locale) if slack_style.is_interactive else []
        for one in shown_questions
    ]
    row = own if slack_style.is_interactive else []
    made: list[Block] = []
    if answers and answers[0]:
        is_one_row = len(answers[0]) <= _IN_ONE_ROW and all(one["type"] == "button" for one in answers[0])
        first, row = ([*answers[0], *row], []) if is_one_row else (answers[0], row)
        made = rows((str(shown_questions[0].approval.key), first), below=[shown])
    for one, below in zip(shown_questions[1:], answers[1:], strict=True):
        if is_rich:
            made.append(rich(*questions.elements_of(one, slack_style, sign="✋ ")))
        else:
            made.append(plain("\n".join(questions.lines_of(one, slack_style))))
        facts = questions.facts_of(one, slack_style)
        made += [context("  ·  ".join(facts))] if facts else []
        made += rows((str(one.approval.key), below), below=[shown, made]) if has_space else []
    if left := asked[1]:
        made.append(context(locale.say("root.more_questions", n=left)))
    return [*made, *rows((str(task.uid), row), below=[shown, made])]


def small_print(
    task: Task, children: Sequence[Task], slack_style: SlackStyle, asked: questions.Asked, who: str
) -> list[Block]:
    """Return the facts in one line: what is needed to judge a question, who, when, and what it cost."""
    locale, is_final = slack_style.locale, labels.is_final(task)
    said = [slack_style.note] * bool(slack_style.note)
    until = ""
    if asked[0]:
        first = asked[0][0]
        said += questions.facts_of(first, slack_style)
        if (due := first.approval.deadline) is not None:
            until = locale.say("reply.until", at=dated(due, DAY))
    said += [disarmed(one) for one in labels.byline(task, has_requester=not who, locale=locale)]
    for_whom = locale.say("task.for", who=f"<@{who}>") if who else ""
    whole, figures = family(task, children), list[str]()
    if is_final:
        figures += [labels.tools(whole, locale), labels.tokens(whole, locale)]
    else:
        figures += [loop(task, locale), labels.cost(whole, locale), _context(task, locale)]
    # Figures stay on one line.
    more = [figure.replace(" ", "\u00a0") for figure in figures if figure]
    at, key = (task.ended_at, "root.ended") if is_final else (task.started_at, "root.started")
    if task.status == "stalled":
        at, key = task.last_activity_at or task.last_event_at, "root.quiet_since"
    when = ""
    if at is not None and not until:
        when = locale.say(key, at=dated(at, DAY if is_final else SINCE))
    parsed = [one for one in (until, for_whom, when) if one]
    if not (said or more or parsed):
        return [context(locale.say("root.nothing_known"))]
    parts: list[str | Element] = ["  ·  ".join(said)] if said else []
    for one in parsed:
        parts.append(small_parsed(f"·  {one}" if parts else one))
    if more:
        parts.append(("·  " if parts else "") + "  ·  ".join(more))
    return [context(*parts)]


def _context(task: Task, locale: Locale) -> str:
    """Return how full the context is, from a half on, and when it will be full."""
    share = task.context_share
    if share is None or share < HALF:
        return ""
    said = locale.say("root.context", share=100 * share, window=labels.count(task.context_window_tokens or 0))
    ahead = labels.forecast(task, locale)
    return " ".join(filter(None, (labels.heat(task), f"{said}{f', {ahead}' if ahead else ''}")))
