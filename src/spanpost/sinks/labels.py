"""Words, signs and colours that all sinks share, so that a status looks the same everywhere."""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import urlsplit

import msgspec

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.messages import LocaleMessage
from spanpost.model.tasks import MERGED, RESTING, Task
from spanpost.semconv import FINAL_STATUSES
from spanpost.sinks.loop_label import loop
from spanpost.tasks import failures, titles
from spanpost.tasks.context_limits import limit_of
from spanpost.tasks.end_reasons import REASONS
from spanpost.text.figures import count, money
from spanpost.text.locales import ENGLISH, Locale
from spanpost.text.sanitise import ELLIPSIS, line, link


class StatusLabel(msgspec.Struct, frozen=True):
    """Sign, word and colour of a status: never by colour alone."""

    emoji: str
    word: str
    #: red, green, yellow, blue or grey
    colour: str


#: Sign and colour of the nine statuses (``docs/reference/conventions.md``), and of a session between prompts.
_STATUSES: dict[str, tuple[str, str]] = {
    "starting": ("🚀", "blue"),
    "working": ("⚙️", "green"),
    "waiting": ("✋", "yellow"),
    "paused": ("⏸️", "grey"),
    "stalled": ("🐢", "yellow"),
    "context_warning": ("⚠️", "yellow"),
    "error": ("❌", "red"),
    "complete": ("✅", "green"),
    "cancelled": ("🛑", "grey"),
    RESTING: ("💬", "grey"),
}
_EMOJI = {
    Kind.START: "🚀",
    Kind.CHECKPOINT: "📍",
    Kind.ARTIFACT: "📎",
    Kind.ERROR: "❗",
    Kind.APPROVAL_REQUESTED: "✋",
    Kind.APPROVAL_RESOLVED: "🗳️",
    Kind.CONTEXT_WARNING: "⚠️",
    Kind.CONTEXT_FORECAST: "🔮",
    Kind.COMPACTION: "🗜️",
    Kind.STALLED: "🐢",
    Kind.LOOP: "🔁",
    Kind.BUDGET_WARNING: "💸",
    Kind.MILESTONE: "📍",
}
#: Shares of the context window from which a status shows a warning.
WARM, HOT = 0.70, 0.85


def status_label(status: str, locale: Locale = ENGLISH) -> StatusLabel:
    """Return the label of a status; an unknown status keeps its own word."""
    if status in _STATUSES:
        emoji, colour = _STATUSES[status]
        return StatusLabel(emoji, locale.say(f"status.{status}"), colour)
    return StatusLabel("❔", line(status, 30) or locale.say("status.unknown"), "grey")


def _alert_label(is_over: bool, locale: Locale) -> StatusLabel:
    return (
        StatusLabel("✅", locale.say("alert.resolved"), "green")
        if is_over
        else StatusLabel("🔔", locale.say("alert.firing"), "red")
    )


def task_label(task: Task, locale: Locale = ENGLISH) -> StatusLabel:
    """Return the label of a task: also a success with failed parts, and a message that goes on in another."""
    if task.end_reason == MERGED:
        return StatusLabel("↪", locale.say("status.moved"), "grey")
    if task.is_alert:
        return _alert_label(is_final(task), locale)
    if task.status == "complete" and task.child_failed:
        return StatusLabel(
            "⚠️", locale.say("status.partly_failed", failed=task.child_failed, n=task.child_count), "yellow"
        )
    label = status_label(task.shown_status, locale)
    if task.end_reason in REASONS and is_final(task):
        # It ended well by its own account, and was stopped all the same.
        emoji, colour = ("⚠️", "yellow") if task.status == "complete" else (label.emoji, label.colour)
        return StatusLabel(emoji, locale.say(f"status.{task.end_reason}"), colour)
    return label


def end_label(status: str, key: str | None, locale: Locale = ENGLISH) -> StatusLabel:
    """Return the label of an end with the message of this key: a session that answered has not asked anybody."""
    return status_label(RESTING if key == "checkpoint.waiting_for_prompt" else status, locale)


def checkpoint_label(checkpoint: Checkpoint, locale: Locale = ENGLISH) -> StatusLabel:
    """Return the label of a checkpoint: an end by its status, any other by its kind."""
    if checkpoint.kind is Kind.END:
        return end_label(checkpoint.status, checkpoint.message.key if checkpoint.message is not None else "", locale)
    if checkpoint.kind is Kind.ALERT:
        return _alert_label(checkpoint.status in FINAL_STATUSES, locale)
    colour = {
        Kind.ERROR: "red",
        Kind.APPROVAL_REQUESTED: "yellow",
        Kind.CONTEXT_WARNING: "yellow",
        Kind.CONTEXT_FORECAST: "yellow",
        Kind.STALLED: "yellow",
        Kind.LOOP: "yellow",
        Kind.BUDGET_WARNING: "yellow",
    }
    kind = checkpoint.kind
    return StatusLabel(_EMOJI.get(kind, "📍"), locale.word(f"kind.{kind}", str(kind)), colour.get(kind, "blue"))


def checkpoint_text(checkpoint: Checkpoint, limit: int = 300, locale: Locale = ENGLISH) -> str:
    """Return a checkpoint's text in one line, else the word for its kind."""
    said = line(locale.translate(checkpoint.message, checkpoint.text), limit)
    return said or checkpoint_label(checkpoint, locale).word


def title(task: Task, limit: int = 150, locale: Locale = ENGLISH) -> str:
    """Return the name that people read. See `spanpost.tasks.titles`."""
    return titles.title(task, limit, locale.say("task.unnamed", id="{id}"))


def without_content(task: Task) -> Task:
    """Return a task without what was asked of it and what it answered."""
    if task.ask is None and task.answer is None:
        return task
    return msgspec.structs.replace(task, ask=None, answer=None)


def byline(task: Task, limit: int = 80, locale: Locale = ENGLISH, *, has_requester: bool = True) -> list[str]:
    """Return the agent, the repository and the requester, where known and different from the title."""
    parts = [line(task.agent_name or "", limit), line(task.repo or "", limit)]
    if task.requested_by and has_requester:
        parts.append(locale.say("task.for", who=line(task.requested_by, limit)))
    return [p for p in parts if p and p != title(task, locale=locale)]


def is_final(task: Task) -> bool:
    """Tell whether the run has ended."""
    return task.status in FINAL_STATUSES


def percent(task: Task) -> float | None:
    """Return the progress shown, 0 to 100, never more than was reported; a success is 100."""
    if task.status == "complete":
        return 100.0 if task.progress is not None or task.step_count else None
    if task.progress is not None:
        return min(max(task.progress, 0.0), 100.0) if task.progress == task.progress else None
    if task.step_index and task.step_count and 0 < task.step_index <= task.step_count:
        # The current step is not done.
        return 100.0 * (task.step_index - 1) / task.step_count
    return None


def bar(share: float, width: int, *, full: str = "█", empty: str = "░") -> str:
    """Draw a share (0 to 1) as a bar; it is full only at 1."""
    done = int(min(max(share, 0.0), 1.0) * width + 1e-9)
    return full * done + empty * (width - done)


def window(task: Task, locale: Locale = ENGLISH) -> str:
    """Write the size of the context window and its source: ``200k (table)``; empty when unknown."""
    if not task.context_window_tokens:
        return ""
    source = locale.word(f"window.{task.context_window_source}", task.context_window_source)
    return count(task.context_window_tokens) + (f" ({source})" if source else "")


def forecast(task: Task, locale: Locale = ENGLISH) -> str:
    """Write when the context reaches the warned limit: ``85 % in about 3 calls, 40s``; empty without a forecast."""
    forecast = task.context_forecast
    if forecast is None or is_final(task):
        return ""
    limit = line(locale.translate(limit_of(forecast), forecast.limit), 40)
    if forecast.seconds < 1:
        return locale.say("figure.forecast", limit=limit, n=forecast.calls)
    return locale.say(
        "figure.forecast_time", limit=limit, n=forecast.calls, time=locale.duration(round(forecast.seconds))
    )


def cost(task: Task, locale: Locale = ENGLISH) -> str:
    """Write the known cost and the number of calls without a price:

    ``$0.41 + 2 calls unpriced``; empty when unknown.
    """
    if task.cost_usd is None:
        return ""
    n = task.unpriced_calls
    return locale.say("figure.unpriced", cost=money(task.cost_usd), n=n) if n else money(task.cost_usd)


def elapsed(span: timedelta, locale: Locale = ENGLISH) -> str:
    """Write a duration in its two largest units, in whole seconds: 42 s, 3 min 07 s, 2 h 05 min, 4 d 03 h."""
    return locale.duration(max(round(span.total_seconds()), 0))


def age(task: Task, now: datetime | None) -> timedelta | None:
    """Return how long the run took, or has taken until `now` (if None: until its last event)."""
    end = task.ended_at if is_final(task) else (now or task.last_event_at)
    return None if task.started_at is None or end is None else end - task.started_at


def step(task: Task, limit: int = 100, locale: Locale = ENGLISH) -> str:
    """Return ``2/5 Fetch data``, as far as it is known."""
    name = line(locale.translate(task.messages.get("step_name"), task.step_name or ""), limit)
    if task.step_index is None:
        return name
    place = f"{task.step_index}/{task.step_count}" if task.step_count else str(task.step_index)
    return f"{place} {name}".strip()


def tokens(task: Task, locale: Locale = ENGLISH) -> str:
    """Return ``188k in · 4.2k out``; empty when unknown, which is never 0."""
    parts = []
    if task.input_tokens is not None:
        parts.append(locale.say("figure.tokens_in", tokens=count(task.input_tokens)))
    if task.output_tokens is not None:
        parts.append(locale.say("figure.tokens_out", tokens=count(task.output_tokens)))
    return " · ".join(parts)


def is_count_of_agents(action: LocaleMessage | None) -> bool:
    """Tell whether the message of an action counts the agents at work (`tasks.closing`)."""
    if action is not None and action.key == "checkpoint.with_words":
        counted = action.values.get("text")
        action = counted if isinstance(counted, LocaleMessage) else None
    return action is not None and action.key in ("task.agents_at_work", "task.agent_at_work")


def doing(task: Task, limit: int = 300, locale: Locale = ENGLISH) -> str:
    """Return what a task is doing: its agent's words, or a text made from its calls and agents."""
    return line(locale.translate(task.messages.get("action"), task.action or ""), limit)


def host(url: str, limit: int = 253) -> str:
    """Return the host of an address that `redaction.link` accepted, in ASCII, so that no letter poses as
    another.

    A long one keeps its end: the owner of a domain chooses the beginning.
    """
    said = urlsplit(url).hostname or ""
    if not said.isascii():
        try:
            said = said.encode("idna").decode()
        except UnicodeError:
            said = said.encode("ascii", "backslashreplace").decode()
    return said if len(said) <= limit else ELLIPSIS + said[1 - limit :]


def links(task: Task, most: int, limit: int = 300) -> list[tuple[str, str]]:
    """Return (label, address) of the links to show; unsafe ones are left out."""
    shown = []
    for name, url in task.links.items():
        if (safe := link(str(url), limit)) is not None:
            shown.append((line(name, 40) or host(safe), safe))
        if len(shown) == most:
            break
    return shown


def results(task: Task, most: int = 8, locale: Locale = ENGLISH) -> list[tuple[str, str]]:
    """Return (name, value) of a task's results; ``x_before`` and ``x_after`` become one: ``x  840 → 310``."""
    shown: list[tuple[str, str]] = []
    for name, value in task.results.items():
        stem = name.removesuffix("_after")
        if stem != name and f"{stem}_before" in task.results:
            continue
        said, whole = line(figure(value, locale), 80), name.removesuffix("_before")
        if whole != name and f"{whole}_after" in task.results:
            name, said = whole, f"{said} → {line(figure(task.results[f'{whole}_after'], locale), 80)}"
        shown.append((line(name, 40), said))
    return shown[:most]


def figure(value: object, locale: Locale = ENGLISH) -> str:
    """Write a value for people: a float without rounding noise."""
    if isinstance(value, bool):
        return locale.say("figure.yes" if value else "figure.no")
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def figures(task: Task, now: datetime | None = None, *, context: bool = True, locale: Locale = ENGLISH) -> list[str]:
    """Return tokens, cost, calls and time, each only where it is known."""
    parts = [said] if (said := loop(task, locale)) else []
    share = task.context_share
    if context and share is not None and task.context_window_tokens:
        parts.append(locale.say("figure.context", share=100 * share, window=window(task, locale)))
        if said := forecast(task, locale):
            parts.append(said)
    if said := tokens(task, locale):
        parts.append(said)
    if task.cost_usd is not None:
        parts.append(cost(task, locale))
    if said := tools(task, locale):
        parts.append(said)
    if (span := age(task, now)) is not None:
        parts.append(elapsed(span, locale))
    return parts


def tools(task: Task, locale: Locale = ENGLISH) -> str:
    """Return ``7 tool calls (1 failed)``; empty without any."""
    if not task.tool_calls:
        return ""
    said = locale.say("figure.tool_calls", n=task.tool_calls)
    return locale.say("figure.some_failed", what=said, n=task.tool_errors) if task.tool_errors else said


def share(percent: float, locale: Locale = ENGLISH) -> str:
    """Return ``40 %``."""
    return locale.say("figure.percent", share=percent)


def heat(task: Task) -> str:
    """Return the sign of a context that fills up; empty while there is room."""
    share = task.context_share
    return "" if share is None or share < WARM else "🔴" if share >= HOT else "🟡"


def context_bar(task: Task, width: int = 10, *, is_short: bool = False, locale: Locale = ENGLISH) -> str:
    """Write how full the context is: ``context ▰▰▰▱▱▱▱▱▱▱ 31 % of 200k (table)``; empty when unknown."""
    share = task.context_share
    if share is None or not task.context_window_tokens:
        return ""
    drawn = bar(share, width, full="▰", empty="▱")
    if is_short:
        return locale.say("figure.context_bar", bar=drawn, share=100 * share)
    return locale.say("figure.context_bar_of", bar=drawn, share=100 * share, window=window(task, locale))


def failure(task: Task, locale: Locale = ENGLISH) -> str:
    """Return why a task failed: the agent's words, or spanpost's for a process that is gone."""
    return locale.translate(task.messages.get("error"), task.error.message) if task.error is not None else ""


def failure_parts(task: Task, locale: Locale = ENGLISH) -> tuple[str, str]:
    """Return type and first line of a failure (`tasks.failures`)."""
    return failures.failure_parts(task.error, failure(task, locale))


def failure_line(task: Task, locale: Locale = ENGLISH) -> str:
    """Return type and first line of a failure in one text."""
    return failures.failure_line(task.error, failure(task, locale))
