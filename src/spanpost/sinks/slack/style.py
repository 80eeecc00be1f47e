"""How messages look and behave that go by one route: what the settings say of it, and of Slack as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from spanpost.model.alerts import Alert
from spanpost.model.checkpoints import Checkpoint
from spanpost.model.messages import LocaleMessage
from spanpost.model.readings import Approval
from spanpost.model.tasks import Task
from spanpost.routing.routes import Route
from spanpost.sinks.slack.links import Template
from spanpost.text.legible import Hidden, ShownText, shown
from spanpost.text.locales import ENGLISH, Locale, locale
from spanpost.text.sanitise import REDACTED, cut, strip

#: Of a dialogue's 250 kB, for the words of a question as JSON writes them in ASCII: two thirds.
MOST_IN_DIALOGUE = 165_000
#: Of what is longer so many characters are shown.
_BEGINNING = 3_000


class SlackStyle(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for a message."""

    prefix: str = ""
    #: Ids of people (``U…``) and groups (``S…``) that are mentioned when a task fails or asks.
    mention: tuple[str, ...] = ()
    shows_content: bool = True
    shows_logs: bool = True
    #: There is somebody to hear of buttons.
    is_interactive: bool = False
    #: The app is declared an agent, and somebody hears of Slack's own button *Stop*.
    has_sessions: bool = False
    #: Tells which tasks something can start again.
    retries: Callable[[Task], bool] = lambda task: True
    links: tuple[Template, ...] = ()
    #: Said in small print: that it stands here in place of another channel.
    note: str = ""
    #: What we say is said in it.
    locale: Locale = ENGLISH
    #: What is not to be seen in Slack, beside what is nowhere to be seen.
    patterns: tuple[re.Pattern[str], ...] = ()

    def by(self, route: Route) -> SlackStyle:
        """Return this manner as a route has it."""
        return msgspec.structs.replace(
            self,
            prefix=route.prefix,
            mention=route.mention,
            shows_content=route.shows_content,
            locale=locale(route.language) if route.language else self.locale,
        )

    def of_task(self, task: Task) -> Task:
        """Return a task as it may be shown."""
        return _redacted(task, self.patterns, _TASK) if self.patterns else task

    def of_alert(self, alert: Alert) -> Alert:
        """Return an alert as it may be shown."""
        return _redacted(alert, self.patterns, _ALERT) if self.patterns else alert

    def of_news(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return news as it may be shown."""
        return _redacted(checkpoint, self.patterns, _NEWS) if self.patterns else checkpoint

    def question(self, approval: Approval) -> ShownText:
        """Return a question as it may be read in Slack. It is not whole where the settings keep a part of it out."""
        whole = shown(approval)
        read = shown(_redacted(approval, self.patterns, _IDS)) if self.patterns else whole
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
        """Return what may be shown of what stands behind a question: an agent's words, and arguments where they are allowed."""
        if self.shows_content or not detail:
            return detail
        if approval is not None and not approval.has_id:
            return ""
        return "" if _is_data(detail) else detail


#: Fields that hold no text of agents: ids, statuses, what we say ourselves.
_TASK = frozenset({"uid", "tenant", "parent_uid", "root_uid", "message_uid", "trace_id", "span_id", "status", "end_reason", "rule"})
_NEWS = frozenset({"id", "tenant", "task_uid", "trace_id", "span_id", "subtree", "kind", "status"})
_ALERT = frozenset({"id", "tenant", "source", "fingerprint", "trace_id", "span_id"})
_IDS = frozenset({"id", "key", "digest", "decision", "source", "reported_by", "escalated_by"})


def _redacted(value: Any, patterns: Sequence[re.Pattern[str]], spared: frozenset[str] = frozenset()) -> Any:
    if isinstance(value, str):
        # Stripped first, so that an invisible character hides nothing from a pattern.
        stripped = strip(value)
        for pattern in patterns:
            stripped = pattern.sub(REDACTED, stripped)
        return stripped
    if isinstance(value, tuple):
        return tuple(_redacted(one, patterns, _IDS if isinstance(one, Approval) else spared) for one in value)
    if isinstance(value, dict):
        return {_redacted(k, patterns): _redacted(v, patterns) for k, v in value.items()}
    if isinstance(value, LocaleMessage):
        return LocaleMessage(value.key, {name: _redacted(one, patterns) for name, one in value.values.items()})
    if isinstance(value, list):
        return [_redacted(one, patterns) for one in value]
    if isinstance(value, msgspec.Struct):
        names = [name for name in value.__struct_fields__ if name not in spared]
        return msgspec.structs.replace(value, **{name: _redacted(getattr(value, name), patterns, spared) for name in names})
    return value


def _is_data(text: str) -> bool:
    """Tell whether a text is data and no prose: arguments as a program writes them."""
    said = text.strip()
    if not said or said[0] not in "[{" or said[-1] not in "]}":
        return False
    try:
        json.loads(said)
    except (ValueError, RecursionError):
        return ":" in said
    return True
