"""Renders a checkpoint as a reply in its task's thread: a line, and below it the details.

A question has its buttons until it is decided, then the decision; a repeated error counts up. An agent's
report of a decision is quoted as its words; spanpost's own decision names who decided, and where.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.readings import Approval, ReportedDecision
from spanpost.model.tasks import Task
from spanpost.sinks import labels
from spanpost.sinks.slack import buttons
from spanpost.sinks.slack.blocks import (
    MAX_SIZE,
    Block,
    Element,
    clock,
    context,
    date,
    dated,
    escape,
    folded,
    mention,
    plain,
    plain_mentions,
    preformatted,
    rich,
    rows,
    section,
    size,
    small_parsed,
    text,
    unbroken,
)
from spanpost.sinks.slack.impersonation import disarmed, quoted
from spanpost.sinks.slack.questions import DrawnQuestion, draw, small_print
from spanpost.sinks.slack.render import ANONYMOUS, HOST, SlackMessage, Style, marker
from spanpost.sinks.slack.style import SlackStyle
from spanpost.text.legible import Hidden, ShownText
from spanpost.text.locales import Locale
from spanpost.text.sanitise import cut, line, link, paragraph

#: A longer log is a file (Grafana OnCall has the same limit); the message shows its end.
TAIL: Final = 2_800
_DETAIL: Final = 2_000
DAY: Final = "{date_short_pretty} {time}"
_DECISIONS: Final = {
    "approve": ("✅", "reply.approved"),
    "accept": ("✅", "reply.approved"),
    "deny": ("🚫", "reply.denied"),
    "reject": ("🚫", "reply.denied"),
}


def reply(
    task: Task,
    checkpoint: Checkpoint,
    *,
    key: str,
    is_root: bool = True,
    style: Style = Style.RICH,
    slack_style: SlackStyle = ANONYMOUS,
    count: int = 1,
    figures: Sequence[str] = (),
) -> SlackMessage:
    """Render a checkpoint as a reply in its task's thread.

    `count`: how often it was reported. `figures`: results of the queries at the end of a task.
    """
    approval = _asked(task, checkpoint)
    asked = slack_style.question(approval) if approval is not None else None
    task, checkpoint = slack_style.of_task(task), slack_style.of_checkpoint(checkpoint)
    for most in (_DETAIL, 600, 0):
        message = _draw(task, checkpoint, key, is_root, style, slack_style, count, figures, asked, most)
        if size([message.blocks]) <= MAX_SIZE:
            break
    return message


def log_of(task: Task, checkpoint: Checkpoint) -> str:
    """Return the log of a checkpoint, unchanged; empty without one."""
    if checkpoint.kind is Kind.ERROR:
        return checkpoint.detail
    if checkpoint.kind is Kind.END and checkpoint.status == "error" and task.error is not None:
        return checkpoint.detail or task.error.log_tail
    return ""


def as_file(log: str, slack_style: SlackStyle) -> str | None:
    """Return a scrubbed log as a file's text; None if it is short enough for the message."""
    whole = paragraph(log, 60_000, keep="tail")
    return whole if slack_style.shows_logs and len(whole) > TAIL else None


def _draw(
    task: Task,
    checkpoint: Checkpoint,
    key: str,
    is_root: bool,
    style: Style,
    slack_style: SlackStyle,
    count: int,
    figures: Sequence[str],
    asked: ShownText | None,
    most: int,
) -> SlackMessage:
    locale = slack_style.locale
    label = labels.checkpoint_label(checkpoint, locale)
    said = _text_of(checkpoint, 600 if most else 200, locale)
    who = "" if is_root else f"{disarmed(labels.title(task, 80, locale))}: "
    approval = _asked(task, checkpoint)
    emoji, verdict = label.emoji, _verdict(approval, locale)
    if checkpoint.kind is Kind.APPROVAL_RESOLVED:
        said = locale.say(
            "reply.agent_says", said=quoted(labels.checkpoint_text(checkpoint, 600 if most else 200, locale))
        )
    below = DrawnQuestion(said=said)
    if approval is not None and asked is not None:
        # The question that the buttons answer, whatever the checkpoint says.
        below = draw(approval, asked, slack_style, most=600 if most else 200, detail=most)
        is_again = checkpoint.id == approval.escalated_by
        said = locale.say("checkpoint.unanswered", question=below.said) if is_again else below.said
    elif checkpoint.kind is Kind.APPROVAL_REQUESTED:
        detail = paragraph(slack_style.detail_of(None, checkpoint.detail), most)
        below = DrawnQuestion(said=said, quoted=[("", detail)] if detail else [])
    log = (
        paragraph(log_of(task, checkpoint), TAIL if most == _DETAIL else most, keep="tail")
        if slack_style.shows_logs
        else ""
    )
    facts = _facts(task, checkpoint, asked, slack_style)
    is_closing = checkpoint.kind is Kind.END and is_root
    if count > 1:
        said += f"  ×{count}"
    results = _results(() if is_closing else labels.results(task, locale=locale), figures, checkpoint.kind)
    until = approval.deadline if approval is not None and approval.is_open else None
    owner = (approval.owner,) if approval is not None and approval.owner else ()
    requester = (person,) if (person := slack_style.person(task)) else ()
    people = tuple(dict.fromkeys((*owner, *requester, *slack_style.mention)))
    calls = people if _is_calling(task, checkpoint, approval) and count == 1 else ()
    if is_closing and not calls and not task.is_muted and not task.is_inferred:
        calls = requester
    row = _buttons(task, checkpoint, approval, asked, locale) if slack_style.is_interactive else []
    head = f"{emoji} {who}{said}"
    blocks: list[Block]
    if style is Style.PLAIN:
        again = locale.say("reply.last_at", at=clock(checkpoint.at)) if count > 1 else ""
        due = locale.say("reply.until", at=clock(until)) if until is not None else ""
        spoken = (
            head,
            *below.lines(),
            *verdict[1:2],
            log,
            "".join(str(e["text"]) for e in results),
            "  ·  ".join(facts),
            due,
            again,
        )
        blocks = [plain(cut("\n".join(filter(None, spoken)), 3_000))]
        if calls:
            blocks.append(plain_mentions(calls))
    else:
        blocks = _rich(checkpoint, (emoji, who, said), verdict, below, facts, calls, count, results, until, locale)
        if log:
            lines = log.count("\n") + 1
            title = locale.say("reply.log_lines", lines=lines) if lines > 1 else locale.say("reply.log")
            blocks.append(folded(title, rich(preformatted(log))))
    if row:
        blocks += rows((str(checkpoint.id if approval is None else approval.key), row), below=[blocks])
    summary = f"{head} ({disarmed(labels.title(task, 80, locale))})" if is_root else head
    if verdict:
        summary = f"{verdict[0]} {verdict[1]}: {summary}"
    return SlackMessage(text=escape(cut(summary, 900)), blocks=blocks, metadata=marker(key), style=style)


def _rich(
    checkpoint: Checkpoint,
    head: tuple[str, str, str],
    verdict: tuple[str, ...],
    below: DrawnQuestion,
    facts: Sequence[str],
    calls: Sequence[str],
    count: int,
    results: Sequence[Element],
    until: datetime | None,
    locale: Locale,
) -> list[Block]:
    emoji, who, said = head
    is_loud = checkpoint.kind in (Kind.END, Kind.APPROVAL_REQUESTED, Kind.ERROR) and not verdict
    safe = link(checkpoint.ref, 500) if checkpoint.kind is Kind.ARTIFACT else None
    line_: list[Element] = [
        text(f"{emoji} "),
        text(who, "bold"),
        text(said, *(("bold",) if is_loud else ()), link=safe or ""),
    ]
    if safe:
        line_.append(text(f"  {labels.host(safe, HOST)}"))
    if count > 1:
        line_ += [text(f"  {locale.say('reply.last')} "), date(checkpoint.at)]
    for one in calls:
        line_ += [text("  "), mention(one)]
    if checkpoint.kind in (Kind.MILESTONE, Kind.CHECKPOINT) and checkpoint.progress is not None:
        share = min(max(checkpoint.progress, 0.0), 100.0) if checkpoint.progress == checkpoint.progress else 0.0
        line_.append(text(f"  ·  {unbroken(labels.share(share, locale))}"))
    parts: list[Element] = [section(*line_), *below.elements()]
    if verdict:
        parts.append(
            section(
                text(f"{verdict[0]} "), text(verdict[1], "bold"), *([text(f"  {verdict[2]}")] if verdict[2] else [])
            )
        )
    if results:
        parts.append(section(*results))
    blocks = [rich(*parts)]
    if facts or until is not None:
        joined = "  ·  ".join(facts)
        due = locale.say("reply.until", at=dated(until, DAY)) if until is not None else ""
        blocks.append(context(joined, *([small_parsed(f"·  {due}" if joined else due)] if due else [])))
    return blocks


def _buttons(
    task: Task, checkpoint: Checkpoint, approval: Approval | None, asked: ShownText | None, locale: Locale
) -> list[Element]:
    """Return the buttons of a question or of a loop; any other checkpoint has none."""
    if checkpoint.kind is Kind.LOOP:
        return buttons.of_loop(task, locale)
    return buttons.of_question(approval, asked, locale) if approval is not None and asked is not None else []


def _asked(task: Task, checkpoint: Checkpoint) -> Approval | None:
    """Return the question of a checkpoint. Its words and its buttons come from the same question."""
    if checkpoint.kind is not Kind.APPROVAL_REQUESTED:
        return None
    approval = task.approval_of(checkpoint.id)
    return approval or next((a for a in reversed(task.approvals) if a.id == checkpoint.ref), None)


def _verdict(approval: Approval | None, locale: Locale) -> tuple[str, ...]:
    """Return sign, words and comment of a question's outcome; empty while it is open."""
    if approval is None or approval.is_open:
        return ()
    if approval.is_void and not approval.decision:
        return ("↪️", locale.say("reply.asked_again"), "")
    if approval.is_ended:
        return ("⌛", locale.say("reply.ended"), "")
    if approval.is_withdrawn:
        return ("⌨️", locale.say("reply.withdrawn"), _answered_there(approval.reported_decision, locale))
    if approval.is_expired:
        return ("⌛", locale.say("reply.expired_denied" if approval.decision == "deny" else "reply.expired"), "")
    comment = quoted(line(approval.comment, 200)) if approval.comment else ""
    by = line(approval.by, 80)
    if not approval.source:
        reported = line(approval.decision, 60) or locale.say("reply.decided_word")
        reported = locale.say("reply.by", decision=reported, by=by) if by else reported
        return ("🗳️", locale.say("reply.as_agent_says"), f"{quoted(reported)}  {comment}".rstrip())
    sign, key = _DECISIONS.get(approval.decision, ("✅", "reply.decided"))
    if approval.rule:
        key = "reply.by_rule" if approval.source == "rule" else "reply.approved_further"
    through = "" if approval.source == "slack" else locale.say("reply.through", source=line(approval.source, 20))
    decision = quoted(line(approval.decision, 60))
    return (sign, locale.say(key, by=by or locale.say("reply.somebody"), through=through, decision=decision), comment)


def _answered_there(reported: ReportedDecision | None, locale: Locale) -> str:
    """Return how a withdrawn question was settled, as telemetry reports; empty where it does not."""
    if reported is None:
        return ""
    said = line(reported.decision, 60)
    by = line(reported.by, 80)
    return quoted(locale.say("reply.by", decision=said, by=by) if by else said)


def _text_of(checkpoint: Checkpoint, limit: int, locale: Locale) -> str:
    """Return a checkpoint's text. A translation is spanpost's own: check its English original for imitation."""
    said, original = labels.checkpoint_text(checkpoint, limit, locale), labels.checkpoint_text(checkpoint, limit)
    return said if disarmed(original) == original else quoted(said)


def _is_calling(task: Task, checkpoint: Checkpoint, approval: Approval | None) -> bool:
    """Tell whether a checkpoint needs a person: an open question, or a failure that was reported and not inferred."""
    if task.is_muted:
        return False
    if checkpoint.kind is Kind.APPROVAL_REQUESTED:
        return approval is None or approval.is_open
    return checkpoint.kind is Kind.END and checkpoint.status == "error" and not task.is_inferred


def _results(given: Sequence[tuple[str, str]], figures: Sequence[str], kind: Kind) -> list[Element]:
    """Return the results of a sub-agent, and the figures of Prometheus; the root message shows its own results."""
    made: list[Element] = []
    for name, value in given if kind is Kind.END else ():
        made += [text(f"{'   ' if made else ''}{disarmed(name)} "), text(disarmed(value), "bold")]
    for one in figures if kind is Kind.END else ():
        made.append(text(f"{'   ' if made else ''}{one}"))
    return made


def _facts(task: Task, checkpoint: Checkpoint, asked: ShownText | None, slack_style: SlackStyle) -> list[str]:
    """Return the small print."""
    locale = slack_style.locale
    if checkpoint.kind in (Kind.CONTEXT_WARNING, Kind.CONTEXT_FORECAST):
        ahead = labels.forecast(task, locale) if checkpoint.kind is Kind.CONTEXT_WARNING else ""
        return [ahead] * bool(ahead)
    if checkpoint.kind is Kind.APPROVAL_REQUESTED:
        approval = _asked(task, checkpoint)
        if approval is not None and asked is not None and approval.is_open:
            is_answered_here = slack_style.is_interactive and approval.key is not None
            options = "" if is_answered_here else _listed(asked.options, locale)
            hidden = locale.say("reply.hidden") if Hidden.ARGUMENTS in asked.hidden and not is_answered_here else ""
            return [one for one in (*small_print(approval, asked, locale), options, hidden) if one]
    return []


def _listed(options: Sequence[str], locale: Locale) -> str:
    shown = " / ".join(line(option, 40) for option in options[:5])
    return locale.say("reply.options", options=shown, n=len(options) - 5) if len(options) > 5 else shown
