"""Style of Slack messages by route, from the route's settings and Slack's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from spanpost.model.alerts import Alert
from spanpost.model.checkpoints import Checkpoint
from spanpost.model.readings import Approval
from spanpost.model.tasks import Task
from spanpost.routing.routes import Route
from spanpost.sinks.labels import without_content
from spanpost.sinks.redaction import compiled
from spanpost.sinks.slack.links import Template
from spanpost.tasks.approval_rules import requester_of
from spanpost.text.legible import Hidden, ShownText, shown
from spanpost.text.locales import ENGLISH, Locale, locale
from spanpost.text.rules import RedactionRule
from spanpost.text.sanitise import cut

#: Maximum JSON length of a question's words: two thirds of the 250 kB that a dialogue may have.
MOST_IN_DIALOGUE = 165_000
#: Characters shown of a longer question.
_BEGINNING = 3_000
T = TypeVar("T", Task, Alert, Checkpoint, Approval)


class SlackStyle(msgspec.Struct, frozen=True, kw_only=True):
    """Style of a message."""

    prefix: str = ""
    #: Ids of people (``U…``) and groups (``S…``) that are mentioned when a task fails or asks.
    mention: tuple[str, ...] = ()
    shows_content: bool = True
    shows_logs: bool = True
    #: Somebody receives clicks on buttons.
    is_interactive: bool = False
    #: The app is declared an agent, and somebody receives Slack's own button *Stop*.
    has_sessions: bool = False
    #: Which tasks can be started again.
    retries: Callable[[Task], bool] = lambda task: True
    #: Which alerts can be silenced.
    silences: Callable[[Alert], bool] = lambda alert: False
    links: tuple[Template, ...] = ()
    #: Address under which people reach the board; empty: it is not known.
    public_url: str = ""
    #: Slack user ids by the names in `agent.requested_by`, in lower case.
    people: Mapping[str, str] = {}
    #: Small print: the message is here instead of in another channel.
    note: str = ""
    #: Language of spanpost's own words.
    locale: Locale = ENGLISH
    #: What is hidden in Slack, besides secrets.
    rules: tuple[RedactionRule, ...] = ()

    def by(self, route: Route) -> SlackStyle:
        """Return the style of a route."""
        return msgspec.structs.replace(
            self,
            prefix=route.prefix,
            mention=route.mention,
            shows_content=route.content,
            locale=locale(route.language) if route.language else self.locale,
            rules=(*self.rules, *route.redact),
        )

    def of_task(self, task: Task) -> Task:
        """Return a task with its texts redacted, and without its content unless that is shown."""
        return self._hidden(task if self.shows_content else without_content(task))

    def of_alert(self, alert: Alert) -> Alert:
        """Return an alert with its texts redacted."""
        return self._hidden(alert)

    def of_checkpoint(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return a checkpoint with its texts redacted."""
        return self._hidden(checkpoint)

    def _hidden(self, value: T) -> T:
        return compiled(self.rules, scans=False).of(value) if self.rules else value

    def page_of(self, task: Task) -> str:
        """Return the address of a task's page on the board; empty where that is not known."""
        return f"{self.public_url}/board/tasks/{task.uid}" if self.public_url else ""

    def links_of(self, task: Task) -> list[tuple[str, str]]:
        """Return (label, address) of the links of the settings that can be filled."""
        return [(one.name, url) for one in self.links if (url := one.filled(task)) is not None]

    def linked(self, task: Task) -> list[tuple[str, str]]:
        """Return (label, address) of the buttons that lead elsewhere: the board, then links of the settings."""
        page = self.page_of(task)
        return [(self.locale.say("button.open"), page)] * bool(page) + self.links_of(task)

    def person(self, task: Task) -> str:
        """Return the Slack user id of the person for whom a task runs; empty where it is not known."""
        return requester_of(task, self.people)

    def knows_name(self, task: Task) -> bool:
        """Tell whether the person for whom a task runs is given by a name, not by an id."""
        return not requester_of(task, {})

    def question(self, approval: Approval) -> ShownText:
        """Return a question as Slack may show it. It is incomplete if the settings hide a part."""
        whole = shown(approval)
        read = shown(self._hidden(approval)) if self.rules else whole
        read = msgspec.structs.replace(read, hidden=whole.hidden)
        here = [] if read == whole else [Hidden.PATTERN]
        if approval.detail and not self.detail_of(approval, approval.detail):
            here, read = [*here, Hidden.ARGUMENTS], msgspec.structs.replace(read, detail="")
        if len(json.dumps([read.question, read.detail, read.options])) > MOST_IN_DIALOGUE:
            here.append(Hidden.LONG)
            options = tuple(cut(option, _BEGINNING // 50) for option in read.options)
            read = msgspec.structs.replace(
                read, question=cut(read.question, _BEGINNING), detail=cut(read.detail, _BEGINNING), options=options
            )
        return msgspec.structs.replace(read, hidden=(*whole.hidden, *here))

    def detail_of(self, approval: Approval | None, detail: str) -> str:
        """Return the details of a question that may be shown: an agent's own words always, arguments if
        content is shown.
        """
        if self.shows_content or not detail:
            return detail
        if approval is not None and not approval.has_id:
            return ""
        return "" if _is_data(detail) else detail


def _is_data(text: str) -> bool:
    """Tell whether a text is data, such as a program's arguments, and not prose."""
    said = text.strip()
    if not said or said[0] not in "[{" or said[-1] not in "]}":
        return False
    try:
        json.loads(said)
    except (ValueError, RecursionError):
        return ":" in said
    return True
