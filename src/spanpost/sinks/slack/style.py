"""Style of Slack messages by route, from the route's settings and Slack's own."""

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

#: Maximum JSON length of a question's words: two thirds of the 250 kB that a dialogue may have.
MOST_IN_DIALOGUE = 165_000
#: Characters shown of a longer question.
_BEGINNING = 3_000


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
    links: tuple[Template, ...] = ()
    #: Small print: the message is here instead of in another channel.
    note: str = ""
    #: Language of spanpost's own words.
    locale: Locale = ENGLISH
    #: Patterns to redact in Slack, in addition to the global ones.
    patterns: tuple[re.Pattern[str], ...] = ()

    def by(self, route: Route) -> SlackStyle:
        """Return the style of a route."""
        return msgspec.structs.replace(
            self,
            prefix=route.prefix,
            mention=route.mention,
            shows_content=route.content,
            locale=locale(route.language) if route.language else self.locale,
        )

    def of_task(self, task: Task) -> Task:
        """Return a task with its texts redacted."""
        return _redacted(task, self.patterns, _TASK) if self.patterns else task

    def of_alert(self, alert: Alert) -> Alert:
        """Return an alert with its texts redacted."""
        return _redacted(alert, self.patterns, _ALERT) if self.patterns else alert

    def of_checkpoint(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return a checkpoint with its texts redacted."""
        return _redacted(checkpoint, self.patterns, _CHECKPOINT) if self.patterns else checkpoint

    def question(self, approval: Approval) -> ShownText:
        """Return a question as Slack may show it. It is incomplete if the settings hide a part."""
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
        """Return the details of a question that may be shown: an agent's own words always, arguments if
        content is shown.
        """
        if self.shows_content or not detail:
            return detail
        if approval is not None and not approval.has_id:
            return ""
        return "" if _is_data(detail) else detail


#: Fields without agents' text: ids, statuses, spanpost's own words.
_TASK = frozenset(
    {"uid", "tenant", "parent_uid", "root_uid", "message_uid", "trace_id", "span_id", "status", "end_reason", "rule"}
)
_CHECKPOINT = frozenset({"id", "tenant", "task_uid", "trace_id", "span_id", "subtree", "kind", "status"})
_ALERT = frozenset({"id", "tenant", "source", "fingerprint", "trace_id", "span_id"})
_IDS = frozenset({"id", "key", "digest", "decision", "source", "reported_by", "escalated_by"})


def _redacted(value: Any, patterns: Sequence[re.Pattern[str]], spared: frozenset[str] = frozenset()) -> Any:
    if isinstance(value, str):
        # Stripped first, so that an invisible character cannot break a pattern.
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
        return msgspec.structs.replace(
            value, **{name: _redacted(getattr(value, name), patterns, spared) for name in names}
        )
    return value


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
