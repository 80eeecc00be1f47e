"""Session of a task's thread, for an app that is declared an agent: Slack shows its own button *Stop*.

After docs.slack.dev/ai/agent-sessions and .../methods/agents.sessions.setStatus (2026-09). A session belongs
to a thread, in a channel or a DM. Slack ends `processing` by itself after an hour, so it is sent again while
the task works.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import msgspec

from spanpost.model.deliveries import Delivery, Receipt
from spanpost.model.tasks import RESTING, Task
from spanpost.semconv import FINAL_STATUSES
from spanpost.sinks.slack.calls import SlackRequest, Talk
from spanpost.text.sanitise import line

METHOD: Final = "agents.sessions.setStatus"
WORKS, WAITS, IDLE = "processing", "suspended", "active"
#: Interval after which `processing` is sent again: half of Slack's limit.
ANEW: Final = timedelta(minutes=30)
#: Transient errors: the status is sent with the next edit.
_PASSING: Final = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}
    | {"connect", "no_answer", "timeout", "reset", "bad_answer"}
)
#: Slack shows this instead of the button when the app does not receive the event.
UNHEARD: Final = "missing_agent_session_stopped_event_subscription"
WHY: Final = {
    UNHEARD: "subscribe the app to the event agent_session_stopped",
    "not_authorized": "declare the app an agent, and install it again",
}


def wanted(task: Task) -> str:
    """Return the session's status for a task."""
    if task.status in FINAL_STATUSES or task.shown_status == RESTING:
        return IDLE
    return WAITS if task.status in ("waiting", "paused") else WORKS


def follow(delivery: Delivery, receipt: Receipt) -> Talk[Receipt]:
    """Update the session of the message that was just shown. A failure costs the button, not the message."""
    ref, want = dict(receipt.ref), wanted(delivery.task)
    if (
        receipt.skipped
        or delivery.summary is not None
        or delivery.alert is not None
        or delivery.has_moved
        or ref.get("ended")
        or not ref.get("ts")
    ):
        return receipt
    at = delivery.claimed_at.timestamp() if delivery.claimed_at is not None else 0.0
    known = ref.get("session")
    is_stale = want == WORKS and at - float(ref.get("session_at", 0.0)) > ANEW.total_seconds()
    if (known == want and not is_stale) or (known is None and want == IDLE):
        return receipt
    arguments: dict[str, Any] = {"channel_id": ref["channel"], "thread_ts": ref["ts"], "status": want}
    if known is None and (title := line(delivery.task.name or "", 200)):
        arguments["title"] = title
    response = yield SlackRequest(method=METHOD, arguments=arguments, is_optional=True)
    if response.error in _PASSING or response.status == 429 or response.status >= 500:
        return receipt
    ref |= {"session": want, "session_at": at}
    ref.pop("session_why", None)
    warning = response.body.get("warning")
    if why := response.error or (warning if isinstance(warning, str) and warning in WHY else ""):
        ref["session_why"] = why
    return msgspec.structs.replace(receipt, ref=ref)
