"""The ``agent.*`` names, each written down once.

The tables in ``docs/reference/conventions.md`` are checked against this file, and the reader (``fold.read``) and the
helpers (``spanpost.agent``) import their names from here. Names are matched exactly, never by prefix, because
``agent.*`` is not ours alone: OpenInference already gave ``agent.name`` its meaning, which we keep.

Beside the names stands one rule that both sides must follow alike: the mark of a question (`question_mark`).

This module imports the standard library alone, so that an agent which uses the helpers pays nothing for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

# --- a task -------------------------------------------------------------------------------------------------------
TASK_ID: Final = "agent.task.id"
TASK_NAME: Final = "agent.task.name"
TASK_TYPE: Final = "agent.task.type"
TASK_PARENT_ID: Final = "agent.task.parent_id"
NAME: Final = "agent.name"
ID: Final = "agent.id"
VERSION: Final = "agent.version"
REPO: Final = "agent.repo"
TOPIC: Final = "agent.topic"
REQUESTED_BY: Final = "agent.requested_by"
TEAM: Final = "agent.team"
ACCOUNT: Final = "agent.account"
RETRY_OF: Final = "agent.retry_of"
CAUSED_BY: Final = "agent.caused_by"
ORDER_ID: Final = "agent.order.id"
LINK_PREFIX: Final = "agent.link."
RESULT_PREFIX: Final = "agent.result."

# --- progress -----------------------------------------------------------------------------------------------------
STATUS: Final = "agent.status"
PROGRESS: Final = "agent.progress"
ACTION: Final = "agent.action"
STEP_NAME: Final = "agent.step.name"
STEP_INDEX: Final = "agent.step.index"
STEP_COUNT: Final = "agent.step.count"
CONTEXT_USED: Final = "agent.context.used_tokens"
CONTEXT_WINDOW: Final = "agent.context.window_tokens"
COST_USD: Final = "agent.cost_usd"

EVENT_COMPACTED: Final = "agent.context.compacted"
#: On that event; `CONTEXT_USED` is what was left.
CONTEXT_BEFORE: Final = "agent.context.before_tokens"

# --- events -------------------------------------------------------------------------------------------------------
EVENT_CHECKPOINT: Final = "agent.checkpoint"
CHECKPOINT_MESSAGE: Final = "agent.checkpoint.message"

EVENT_ARTIFACT: Final = "agent.artifact"
ARTIFACT_NAME: Final = "agent.artifact.name"
ARTIFACT_URI: Final = "agent.artifact.uri"
ARTIFACT_KIND: Final = "agent.artifact.kind"

EVENT_APPROVAL_REQUESTED: Final = "agent.approval.requested"
EVENT_APPROVAL_RESOLVED: Final = "agent.approval.resolved"
APPROVAL_ID: Final = "agent.approval.id"
APPROVAL_QUESTION: Final = "agent.approval.question"
APPROVAL_DETAIL: Final = "agent.approval.detail"
APPROVAL_OPTIONS: Final = "agent.approval.options"
APPROVAL_RISK: Final = "agent.approval.risk"
APPROVAL_EXPIRES_AT: Final = "agent.approval.expires_at"
#: What happens then: one of `AT_EXPIRY`.
APPROVAL_AT_EXPIRY: Final = "agent.approval.at_expiry"
#: The mark of what is asked (`question_mark`), as its asker computed it: spanpost itself is asked, and telemetry answers nothing.
APPROVAL_DIGEST: Final = "agent.approval.digest"
APPROVAL_DECISION: Final = "agent.approval.decision"
APPROVAL_BY: Final = "agent.approval.by"
APPROVAL_COMMENT: Final = "agent.approval.comment"
#: What is done when nobody answered in time: it stays open; it counts as denied; it is told once more, urgently, and expires
#: after as long again; it ends without a decision.
AT_EXPIRY: Final = ("wait", "deny", "escalate", "expire")
#: The decision of a question that ended without one. Never a refusal.
EXPIRED: Final = "expired"
#: The span of an agent that waits for a person.
SPAN_APPROVAL_WAIT: Final = "agent.approval.wait"
#: As much of a question is kept whole, in characters: of question and detail each, of its risk and of each option; and options.
#: A question that is longer cannot be approved, because nobody could read all of it.
QUESTION_LIMIT: Final = 8192
OPTION_LIMIT: Final = 512
OPTIONS_LIMIT: Final = 20

EVENT_ERROR: Final = "agent.error"
EVENT_EXCEPTION: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
ERROR_LOG_TAIL: Final = "agent.error.log_tail"

# --- recorded by spanpost itself: what people asked through it -----------------------------------------------------
EVENT_APPROVAL_ESCALATED: Final = "agent.approval.escalated"
#: An agent waits for the answer to a question that bears no mark.
EVENT_APPROVAL_AWAITED: Final = "agent.approval.awaited"
EVENT_INTERVENTION: Final = "agent.intervention"
INTERVENTION_VERB: Final = "agent.intervention.verb"
INTERVENTION_BY: Final = "agent.intervention.by"
INTERVENTION_TEXT: Final = "agent.intervention.text"
#: How it reached spanpost: slack, api, cli; ``spanpost`` for what a deadline decided.
INTERVENTION_SOURCE: Final = "agent.intervention.source"
#: Of a decision: true when the time was over before anybody decided.
INTERVENTION_EXPIRED: Final = "agent.intervention.expired"
#: Of an act: the newest moment that was known of its task then, by the clocks of those who told of it, in nanoseconds since 1970.
INTERVENTION_SEEN: Final = "agent.intervention.seen_unix_nano"
#: Of a decision that is told to whoever asks again: when that asked, in nanoseconds since 1970. It is no news.
INTERVENTION_AGAIN: Final = "agent.intervention.again_unix_nano"
#: An alert about a task, on its box: that it fires, that it is over.
EVENT_ALERT: Final = "agent.alert"
ALERT_ID: Final = "agent.alert.id"
ALERT_STATE: Final = "agent.alert.state"
ALERT_NAME: Final = "agent.alert.name"
ALERT_SEVERITY: Final = "agent.alert.severity"
ALERT_SUMMARY: Final = "agent.alert.summary"
ALERT_DESCRIPTION: Final = "agent.alert.description"
FIRING: Final = "firing"
RESOLVED: Final = "resolved"
#: Type of the task that an alert is which names none.
ALERT: Final = "alert"

# --- recorded by spanpost itself: a share of a budget was passed ---------------------------------------------------
EVENT_BUDGET: Final = "agent.budget.reached"
BUDGET_NAME: Final = "agent.budget.name"
BUDGET_TEXT: Final = "agent.budget.text"
BUDGET_MESSAGE: Final = "agent.budget.message"
#: The share that was passed, 1 for all of it.
BUDGET_LEVEL: Final = "agent.budget.level"
#: What makes it the same occurrence.
BUDGET_KEY: Final = "agent.budget.key"

# --- live, over the wire ------------------------------------------------------------------------------------------
EVENT_SPAN_STARTED: Final = "agent.span.started"
EVENT_SPAN_INTERRUPTED: Final = "agent.span.interrupted"
#: Recorded by spanpost itself where a process's heartbeats stopped, or came again.
EVENT_SPAN_SILENT: Final = "agent.span.silent"
EVENT_SPAN_HEARD: Final = "agent.span.heard"
EVENT_HEARTBEAT: Final = "agent.heartbeat"
PRODUCER: Final = "agent.producer"
SEQ: Final = "agent.seq"
SPAN_NAME: Final = "span.name"
#: Set by the live span processor alone: something that is no `Exception` ended the span (a cancellation, a Ctrl-C).
SPAN_CANCELLED: Final = "spanpost.cancelled"
#: OTLP number or name of the kind, parent span id (hex), start in Unix nanoseconds: what a started span's record carries.
SPAN_KIND: Final = "span.kind"
SPAN_PARENT_ID: Final = "span.parent_id"
SPAN_START: Final = "span.start_unix_nano"
#: Where it has any: links, each "<trace id>-<span id>" in hex; the status code as OTLP numbers it, and its message.
SPAN_LINKS: Final = "span.links"
SPAN_STATUS: Final = "span.status_code"
SPAN_STATUS_MESSAGE: Final = "span.status_message"
#: What belongs to a started span's record and not to the span: a span's own attributes of these names are not told live.
ENVELOPE: Final = frozenset(
    {SPAN_NAME, SPAN_KIND, SPAN_PARENT_ID, SPAN_START, SPAN_LINKS, SPAN_STATUS, SPAN_STATUS_MESSAGE, "event.name", "event_name"}
)
#: On the record of a span event that has equals (same span, name and time) before it: how many.
ORDINAL: Final = "agent.ordinal"
#: On a heartbeat: its process's open roots, each "<trace id>-<span id>" in hex.
OPEN_ROOTS: Final = "agent.open_roots"
#: On a heartbeat: seconds until the next one.
HEARTBEAT_INTERVAL: Final = "agent.heartbeat.interval"

# --- the nine statuses --------------------------------------------------------------------------------------------
STARTING: Final = "starting"
WORKING: Final = "working"
WAITING: Final = "waiting"
PAUSED: Final = "paused"
STALLED: Final = "stalled"
CONTEXT_WARNING: Final = "context_warning"
ERROR: Final = "error"
COMPLETE: Final = "complete"
CANCELLED: Final = "cancelled"

STATUSES: Final = (STARTING, WORKING, WAITING, PAUSED, STALLED, CONTEXT_WARNING, ERROR, COMPLETE, CANCELLED)
#: A status that ends a run.
FINAL_STATUSES: Final = frozenset({ERROR, COMPLETE, CANCELLED})

_SURROGATES = re.compile("[\ud800-\udfff]")


def question_mark(question: str, detail: str, options: Iterable[str], risk: str) -> str:
    """Return the mark of a question: SHA-256, in hex, of its words as canonical JSON (RFC 8785).

    The JSON is an array of the question, the detail, an array of the options and the risk; what was not said is empty. Of all texts
    U+0000 is replaced by U+2400 and lone surrogates by U+FFFD, as every receiver does; an option has no white space around it, and
    an empty one does not count. The same words have the same mark, whoever computes it, in whatever language.
    """
    given = [option.strip() for option in map(question_text, options)]
    words = [question_text(question), question_text(detail), [option for option in given if option], question_text(risk)]
    return sha256(json.dumps(words, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def question_text(text: str) -> str:
    """Return a text of a question as every receiver keeps it: without U+0000 and lone surrogates."""
    return _SURROGATES.sub("\ufffd", text.replace("\0", "\u2400"))
