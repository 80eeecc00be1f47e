"""Renders a question in a message: the shown part, the quoted part, and a note about the rest.

Agents' text stays in its own line or in a quotation: whatever it imitates, it is never where spanpost's own
words are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from spanpost.model.readings import Approval
from spanpost.model.tasks import Task
from spanpost.routing.routes import Routes, chosen
from spanpost.sinks import labels
from spanpost.sinks.slack.blocks import Element, quote, section, text
from spanpost.sinks.slack.impersonation import disarmed
from spanpost.sinks.slack.style import SlackStyle
from spanpost.text.legible import BRIEF_RISK, BRIEF_TOOL, ShownText
from spanpost.text.locales import Locale
from spanpost.text.locales.questions import why_hidden
from spanpost.text.sanitise import cut, line

#: Open questions that a message shows, at most.
QUESTIONS: Final = 2
#: Characters of the details of a longer question in the task's message; its dialogue has all.
DETAIL: Final = 400
#: Command that answers without Slack.
COMMAND: Final = "spanpost approvals"
#: Prefix of each line of an agent's text where quotations do not exist.
BAR: Final = "│ "


class OpenQuestion(msgspec.Struct, frozen=True):
    """An open question with the text that may be shown, and the name of the sub-agent that asks; empty: the task."""

    approval: Approval
    shown: ShownText
    who: str = ""


#: The open questions of a task and all tasks below it: those that are shown, and the number of the others.
Asked: TypeAlias = tuple[Sequence[OpenQuestion], int]


def asked_of(task: Task, children: Sequence[Task], slack_style: SlackStyle) -> Asked:
    """Return the open questions of a task, then those of the tasks below it; none of a task that has ended."""
    if labels.is_final(task):
        return (), 0
    found = [(one, approval) for one in (task, *children) for approval in one.open_approvals]
    shown = [
        OpenQuestion(
            approval,
            slack_style.question(approval),
            "" if one is task else disarmed(labels.title(slack_style.of_task(one), 80, slack_style.locale)),
        )
        for one, approval in found[:QUESTIONS]
    ]
    return shown, len(found) - len(shown)


class DrawnQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question in a message."""

    #: The line that asks; spanpost's own words if the question is quoted.
    said: str
    #: Quoted parts, each with its title, if any.
    quoted: Sequence[tuple[str, str]] = ()
    #: Note about what is not shown.
    note: str = ""

    def elements(self) -> list[Element]:
        """Return the parts below the line, as rich text."""
        made: list[Element] = []
        for title, said in self.quoted:
            made += [section(text(title))] * bool(title) + [quote(said)]
        return [*made, section(text(self.note, "italic"))] if self.note else made

    def lines(self) -> list[str]:
        """Return the parts below the line, as plain text."""
        made: list[str] = []
        for title, said in self.quoted:
            made += [title] * bool(title) + [BAR + one for one in said.split("\n")]
        return [*made, self.note] if self.note else made


def draw(approval: Approval, shown: ShownText, slack_style: SlackStyle, *, most: int, detail: int) -> DrawnQuestion:
    """Draw a question: all of a brief one; of others `most` characters of it and `detail` characters of its detail."""
    locale = slack_style.locale
    note = _note(approval, shown, slack_style)
    ours = locale.say("root.must_decide")
    if not shown.is_brief:
        said = disarmed(line(shown.question, most))
        return DrawnQuestion(said=said or ours, quoted=_quoted(("", cut(shown.detail, detail))), note=note)
    if "\n" not in shown.question and disarmed(shown.question) == shown.question:
        return DrawnQuestion(said=shown.question or ours, quoted=_quoted(("", shown.detail)), note=note)
    parts = (("", shown.question), (locale.say("show.details"), shown.detail))
    return DrawnQuestion(said=ours, quoted=_quoted(*parts), note=note)


def elements_of(one: OpenQuestion, slack_style: SlackStyle, *, sign: str = "") -> list[Element]:
    """Draw an open question with what it takes to judge it: the line that asks, in bold, and its details quoted."""
    drawn = _drawn(one, slack_style)
    who = slack_style.locale.say("root.asks", who=one.who) if one.who else ""
    return [section(text(sign), text(who), text(drawn.said, "bold")), *drawn.elements()]


def lines_of(one: OpenQuestion, slack_style: SlackStyle) -> list[str]:
    """Draw an open question in plain lines."""
    drawn = _drawn(one, slack_style)
    who = slack_style.locale.say("root.asks", who=one.who) if one.who else ""
    return [f"✋ {who}{drawn.said}", *drawn.lines()]


def facts_of(one: OpenQuestion, slack_style: SlackStyle) -> list[str]:
    """Return the small print of an open question: tool, risk, people, and how to answer it where not by a click."""
    locale, approval = slack_style.locale, one.approval
    found = small_print(approval, one.shown, locale)
    if not slack_style.is_interactive:
        options = " / ".join(line(option, 40) for option in one.shown.options[:5])
        found += [options] * bool(options)
        found += [locale.say("root.answer_at", command=COMMAND)] * (approval.key is not None)
    return found


def _drawn(one: OpenQuestion, slack_style: SlackStyle) -> DrawnQuestion:
    return draw(one.approval, one.shown, slack_style, most=300, detail=DETAIL)


def risk_of(shown: ShownText, locale: Locale) -> str:
    """Return the risk that the agent states, as a phrase."""
    return disarmed(locale.say("reply.risk", risk=cut(shown.risk, BRIEF_RISK))) if shown.risk else ""


def tool_of(shown: ShownText, locale: Locale) -> str:
    """Return the tool that a question asks for, as a phrase."""
    return disarmed(locale.say("reply.tool", tool=cut(shown.tool, BRIEF_TOOL))) if shown.tool else ""


def people_of(approval: Approval, locale: Locale) -> str:
    """Return how many people must approve an open question, and who did; empty where one is enough."""
    if approval.needs < 2 or not approval.is_open:
        return ""
    if not approval.approved_by:
        return locale.say("reply.needs", needs=approval.needs)
    names = disarmed(", ".join(line(name, 80) for name in approval.approved_by))
    return locale.say("reply.counted", count=len(approval.approved_by), needs=approval.needs, names=names)


def small_print(approval: Approval, shown: ShownText, locale: Locale) -> list[str]:
    """Return what stands below a question: its tool, its risk, and how many people must approve."""
    found = tool_of(shown, locale), risk_of(shown, locale), people_of(approval, locale)
    return [one for one in found if one]


def _quoted(*parts: tuple[str, str]) -> list[tuple[str, str]]:
    return [(title, said) for title, said in parts if said]


def _note(approval: Approval, shown: ShownText, slack_style: SlackStyle) -> str:
    if not slack_style.is_interactive or approval.key is None or not approval.is_open:
        return ""
    if not shown.is_whole:
        return why_hidden(shown.hidden, slack_style.locale)
    return "" if shown.is_brief else slack_style.locale.say("reply.long")


def reader(slack_style: SlackStyle, routes: Routes) -> Callable[[Task, Approval, str], ShownText]:
    """Return a function that reads a task's question in a channel, by the task's route there; of several by
    the strictest.
    """

    def read(task: Task, approval: Approval, channel: str) -> ShownText:
        of_task = list(chosen(task, routes, sink="slack"))
        here = [route for route in of_task if route.address.rpartition("/")[2] == channel] or of_task
        found = [slack_style.by(route).question(approval) for route in here] or [slack_style.question(approval)]
        return next((one for one in found if not one.is_whole), found[0])

    return read
