"""The ``agent.*`` names, each defined once.

A test compares the tables of ``docs/reference/conventions.md`` with this file. The readers
(``spanpost.readers``) and the helpers (``spanpost.agent``) import their names from here. Names are matched
exactly, never by prefix, because ``agent.*`` is shared: OpenInference already defines ``agent.name``, and
spanpost keeps its meaning.

The module also holds one rule that both sides must share: the mark of a question (`question_mark`).

It imports only the standard library, so that an agent which uses the helpers pays nothing for it.
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
#: Tokens before the compaction, on that event; `CONTEXT_USED` holds the tokens after it.
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
#: What happens at expiry: one of `AT_EXPIRY`.
APPROVAL_AT_EXPIRY: Final = "agent.approval.at_expiry"
#: Seconds for which the question is open before people are asked: it may be answered where the agent runs.
APPROVAL_ASK_AFTER: Final = "agent.approval.ask_after"
#: Longest such time.
LONGEST_ASK_AFTER: Final = 3600.0
#: Session and working directory of a run that ended with this question: an approval or a denial resumes it.
APPROVAL_RESUME: Final = "agent.approval.resume"
#: The mark of the question (`question_mark`), computed by the asking agent. It means that people answer
#: through spanpost; answers in telemetry do not count.
APPROVAL_DIGEST: Final = "agent.approval.digest"
#: Name of the tool that the question asks for: people may grant it a standing approval.
APPROVAL_TOOL: Final = "agent.approval.tool"
#: Number of different people who must approve; the settings may ask for more.
APPROVAL_NEEDS: Final = "agent.approval.needs"
#: Who is asked, one after the other (``@owner``, an email address, a Slack user, a channel), and how many seconds
#: each has before the next is asked.
APPROVAL_TO: Final = "agent.approval.to"
APPROVAL_TO_AFTER: Final = "agent.approval.to_after"
APPROVAL_DECISION: Final = "agent.approval.decision"
APPROVAL_BY: Final = "agent.approval.by"
APPROVAL_COMMENT: Final = "agent.approval.comment"
#: Without an answer in time, a question stays open; counts as denied; is posted once more as urgent, and
#: expires after the same time again; or ends without a decision.
AT_EXPIRY: Final = ("wait", "deny", "escalate", "expire")
#: The decision of a question that ended without one. Never a refusal.
EXPIRED: Final = "expired"
#: The decision of a question that was withdrawn, and its `source`: nothing waits for it any more. Never a
#: grant.
WITHDRAWN: Final = "withdrawn"
WITHDRAWAL: Final = "withdrawal"
#: The span of an agent that waits for a person.
SPAN_APPROVAL_WAIT: Final = "agent.approval.wait"
#: Limits of a question, in characters: question and detail each; risk and each option; and the number of
#: options. A longer question cannot be approved, because people cannot read all of it.
QUESTION_LIMIT: Final = 8192
OPTION_LIMIT: Final = 512
OPTIONS_LIMIT: Final = 20
#: Most people who must approve, and most places that are asked.
NEEDS_LIMIT: Final = 10
TO_LIMIT: Final = 10

EVENT_ERROR: Final = "agent.error"
EVENT_EXCEPTION: Final = "exception"
#: The same of OpenTelemetry's GenAI conventions, which write it on the span that fails, or in a record of it.
EXCEPTION_EVENTS: Final = frozenset(
    {EVENT_EXCEPTION, "gen_ai.client.operation.exception", "gen_ai.execute_tool.exception"}
)
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
ERROR_LOG_TAIL: Final = "agent.error.log_tail"

# --- permission hooks of coding CLIs -------------------------------------------------------------------------------
#: A hook was called in a session that spanpost does not know yet: the prompt has begun.
EVENT_HOOK_CALLED: Final = "agent.hook.called"
#: The coding CLI whose hook asks: its name among `interactions.hooks.programs`.
HOOK_PROGRAM: Final = "agent.hook.program"

# --- recorded by spanpost itself: what people asked through it -----------------------------------------------------
EVENT_APPROVAL_ESCALATED: Final = "agent.approval.escalated"
#: An agent waits for the answer to a question without a mark.
EVENT_APPROVAL_AWAITED: Final = "agent.approval.awaited"
#: A person approved a question that needs more people.
EVENT_APPROVAL_COUNTED: Final = "agent.approval.counted"
#: The next place of a question's chain is asked; `APPROVAL_TO` names it.
EVENT_APPROVAL_PASSED_ON: Final = "agent.approval.passed_on"
EVENT_INTERVENTION: Final = "agent.intervention"
INTERVENTION_VERB: Final = "agent.intervention.verb"
INTERVENTION_BY: Final = "agent.intervention.by"
#: That person's identity: provider, team and id.
INTERVENTION_BY_ID: Final = "agent.intervention.by_id"
INTERVENTION_TEXT: Final = "agent.intervention.text"
#: How it reached spanpost: slack, api, app, cli; ``spanpost`` for the decision of a deadline, ``rule`` for that of a
#: standing approval.
INTERVENTION_SOURCE: Final = "agent.intervention.source"
#: On a decision: the standing approval that made it, or that it granted.
INTERVENTION_RULE: Final = "agent.intervention.rule"
#: On a decision: true if the question expired first.
INTERVENTION_EXPIRED: Final = "agent.intervention.expired"
#: On a rating: up or down.
INTERVENTION_RATING: Final = "agent.intervention.rating"
#: On an intervention: the newest timestamp of its task at that time, by the clocks of its producers, in
#: nanoseconds since 1970.
INTERVENTION_SEEN: Final = "agent.intervention.seen_unix_nano"
#: On a dismissal: the finding that the person let be, and its count at that time.
INTERVENTION_FINDING: Final = "agent.intervention.finding"
INTERVENTION_COUNT: Final = "agent.intervention.count"
#: On a decision that answers a repeated question: when it was asked again, in nanoseconds since 1970. It is
#: not reported again.
INTERVENTION_AGAIN: Final = "agent.intervention.again_unix_nano"
#: An alert about a task, on its root span: it fires, or it is resolved.
EVENT_ALERT: Final = "agent.alert"
ALERT_ID: Final = "agent.alert.id"
ALERT_STATE: Final = "agent.alert.state"
ALERT_NAME: Final = "agent.alert.name"
ALERT_SEVERITY: Final = "agent.alert.severity"
ALERT_SUMMARY: Final = "agent.alert.summary"
ALERT_DESCRIPTION: Final = "agent.alert.description"
#: The person who acknowledged or silenced it.
ALERT_BY: Final = "agent.alert.by"
FIRING: Final = "firing"
RESOLVED: Final = "resolved"
#: Type of the task that stands for an alert without a task.
ALERT: Final = "alert"

# --- the result of an evaluation, as the GenAI conventions name it --------------------------------------------------
EVENT_EVALUATION: Final = "gen_ai.evaluation.result"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_SCORE: Final = "gen_ai.evaluation.score.value"
EVALUATION_LABEL: Final = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"
RESPONSE_ID: Final = "gen_ai.response.id"
#: Instrumentation scope of the evaluations and pauses that spanpost emits; its own are not read again.
SCOPE_FEEDBACK: Final = "spanpost.feedback"

# --- a wait for a person, as the GenAI conventions' proposals name it (issue 159, pull request 445) ------------------
EVENT_AGENT_PAUSED: Final = "gen_ai.agent.paused"
EVENT_PAUSE_RESOLVED: Final = "gen_ai.agent.pause.resolved"
EVENT_AGENT_RESUMED: Final = "gen_ai.agent.resumed"
EXECUTION_ID: Final = "gen_ai.agent.execution.id"
PAUSE_ID: Final = "gen_ai.agent.pause.id"
PAUSE_REASON: Final = "gen_ai.agent.pause.reason"
PAUSE_DEADLINE: Final = "gen_ai.agent.pause.deadline"
PAUSE_RESOLUTION: Final = "gen_ai.agent.pause.resolution"
RESUMED_FROM_TYPE: Final = "gen_ai.agent.resumed_from.type"
RESUMED_FROM_ID: Final = "gen_ai.agent.resumed_from.id"
#: The reason of a pause that waits for a person.
HUMAN_INPUT: Final = "human_input"

# --- recorded by spanpost itself: a share of a budget was passed ---------------------------------------------------
EVENT_BUDGET: Final = "agent.budget.reached"
BUDGET_NAME: Final = "agent.budget.name"
BUDGET_TEXT: Final = "agent.budget.text"
BUDGET_MESSAGE: Final = "agent.budget.message"
#: The share that was passed, 1 for all of it.
BUDGET_LEVEL: Final = "agent.budget.level"
#: Identity of the occurrence.
BUDGET_KEY: Final = "agent.budget.key"

# --- live, over the wire ------------------------------------------------------------------------------------------
EVENT_SPAN_STARTED: Final = "agent.span.started"
EVENT_SPAN_INTERRUPTED: Final = "agent.span.interrupted"
#: Recorded by spanpost itself when a process's heartbeats stopped, or started again.
EVENT_SPAN_STALLED: Final = "agent.span.stalled"
EVENT_SPAN_RECOVERED: Final = "agent.span.recovered"
EVENT_HEARTBEAT: Final = "agent.heartbeat"
PRODUCER: Final = "agent.producer"
SEQ: Final = "agent.seq"
SPAN_NAME: Final = "span.name"
#: Set only by the live span processor: a `BaseException` that is not an `Exception` ended the span (a
#: cancellation, a Ctrl-C).
SPAN_CANCELLED: Final = "spanpost.cancelled"
#: On the record of a started span: OTLP number or name of the kind, parent span id (hex), start in Unix
#: nanoseconds.
SPAN_KIND: Final = "span.kind"
SPAN_PARENT_ID: Final = "span.parent_id"
SPAN_START: Final = "span.start_unix_nano"
#: Optional: links, each "<trace id>-<span id>" in hex; the OTLP status code, and its message.
SPAN_LINKS: Final = "span.links"
SPAN_STATUS: Final = "span.status_code"
SPAN_STATUS_MESSAGE: Final = "span.status_message"
#: Fields of a started span's record. Span attributes with these names are not sent live.
ENVELOPE: Final = frozenset(
    {
        SPAN_NAME,
        SPAN_KIND,
        SPAN_PARENT_ID,
        SPAN_START,
        SPAN_LINKS,
        SPAN_STATUS,
        SPAN_STATUS_MESSAGE,
        "event.name",
        "event_name",
    }
)
#: On the record of a span event: its zero-based position among equal events (same span, name and time).
ORDINAL: Final = "agent.ordinal"
#: On a heartbeat: the open root spans of its process, each "<trace id>-<span id>" in hex.
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


def question_mark(question: str, detail: str, options: Iterable[str], risk: str, tool: str = "") -> str:
    """Return the mark of a question: SHA-256, in hex, of its texts as canonical JSON (RFC 8785).

    The JSON is an array of the question, the detail, an array of the options, the risk and, where there is
    one, the tool; other missing texts are empty. In all texts U+0000 is replaced by U+2400 and lone surrogates
    by U+FFFD, as every receiver does. White space around an option is removed, and an empty option does not
    count. The same texts have the same mark in every implementation.
    """
    given = [option.strip() for option in map(question_text, options)]
    words = [
        question_text(question),
        question_text(detail),
        [option for option in given if option],
        question_text(risk),
        *([question_text(tool)] if tool else []),
    ]
    return sha256(json.dumps(words, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def question_text(text: str) -> str:
    """Return a text of a question as every receiver keeps it: without U+0000 and lone surrogates."""
    return _SURROGATES.sub("\ufffd", text.replace("\0", "\u2400"))
