"""The words, signs and colours that every window shares, so that a status looks the same wherever it is seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from urllib.parse import urlsplit

import msgspec

from spanpost.conventions import FINAL_STATUSES
from spanpost.domain.checkpoints import Checkpoint, Kind
from spanpost.domain.tasks import MERGED, Task
from spanpost.domain.totals import together
from spanpost.fold.redact import ELLIPSIS, line, link


class Look(msgspec.Struct, frozen=True):
    """How a status is shown: never by colour alone."""

    emoji: str
    word: str
    #: red, green, yellow, blue or grey
    colour: str


#: ``docs/reference/conventions.md``, the nine statuses.
LOOKS: dict[str, Look] = {
    "starting": Look("🚀", "starting", "blue"),
    "working": Look("⚙️", "working", "green"),
    "waiting": Look("✋", "waiting for a person", "yellow"),
    "paused": Look("⏸️", "paused", "grey"),
    "stalled": Look("🐢", "stalled", "yellow"),
    "context_warning": Look("⚠️", "context filling", "yellow"),
    "error": Look("❌", "failed", "red"),
    "complete": Look("✅", "complete", "green"),
    "cancelled": Look("🛑", "cancelled", "grey"),
}
FIRING = Look("🔔", "firing", "red")
RESOLVED = Look("✅", "resolved", "green")
_NEWS = {
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
    Kind.BUDGET_WARNING: "💸",
    Kind.MILESTONE: "📍",
}
_SAYS = {
    Kind.START: "started",
    Kind.CHECKPOINT: "checkpoint",
    Kind.ARTIFACT: "made something",
    Kind.ERROR: "a part failed",
    Kind.APPROVAL_REQUESTED: "a person must decide",
    Kind.APPROVAL_RESOLVED: "decided",
    Kind.CONTEXT_WARNING: "context is filling",
    Kind.CONTEXT_FORECAST: "context will be full",
    Kind.COMPACTION: "context was compacted",
    Kind.STALLED: "nothing heard",
    Kind.BUDGET_WARNING: "budget",
    Kind.MILESTONE: "a milestone",
}
#: Of the context window, where `LOOKS` calls it a warning.
WARM, HOT = 0.70, 0.85


def look(status: str) -> Look:
    """Return how a status is shown; an unknown one by its own word."""
    return LOOKS.get(status) or Look("❔", line(status, 30) or "unknown", "grey")


def task_look(task: Task) -> Look:
    """Return how the task is shown: a good end over failed parts says so, and the end of a message that goes on in another."""
    if task.end_reason == MERGED:
        return Look("↪", "went on in another message", "grey")
    if task.is_alert:
        return RESOLVED if is_final(task) else FIRING
    if task.status == "complete" and task.child_failed:
        return Look("⚠️", f"complete, {task.child_failed} of {agents(task.child_count)} failed", "yellow")
    return look(task.status)


def news_look(checkpoint: Checkpoint) -> Look:
    """Return how a checkpoint is shown: an end as its verdict, anything else as what it tells."""
    if checkpoint.kind is Kind.END:
        return look(checkpoint.status)
    if checkpoint.kind is Kind.ALERT:
        return RESOLVED if checkpoint.status in FINAL_STATUSES else FIRING
    colour = {
        Kind.ERROR: "red",
        Kind.APPROVAL_REQUESTED: "yellow",
        Kind.CONTEXT_WARNING: "yellow",
        Kind.CONTEXT_FORECAST: "yellow",
        Kind.STALLED: "yellow",
        Kind.BUDGET_WARNING: "yellow",
    }
    return Look(
        _NEWS.get(checkpoint.kind, "📍"), _SAYS.get(checkpoint.kind, str(checkpoint.kind)), colour.get(checkpoint.kind, "blue")
    )


def news_text(checkpoint: Checkpoint, limit: int = 300) -> str:
    """Return the line of a checkpoint: what was said, else what kind it is."""
    said = line(checkpoint.text, limit)
    return said or news_look(checkpoint).word


def title(task: Task, limit: int = 150) -> str:
    """Return the name that a person reads: the task's, else its agent's, else its id."""
    return line(task.name, limit) or line(task.agent_name or "", limit) or line(f"task {task.task_id}", limit)


def byline(task: Task, limit: int = 80) -> list[str]:
    """Return who works for whom on what, where that is known and not the title already."""
    parts = [line(task.agent_name or "", limit), line(task.repo or "", limit)]
    if task.requested_by:
        parts.append(f"for {line(task.requested_by, limit)}")
    return [p for p in parts if p and p != title(task)]


def is_final(task: Task) -> bool:
    """True when the run has ended."""
    return task.status in FINAL_STATUSES


def percent(task: Task) -> float | None:
    """Return the progress shown, 0 to 100: what was said, never more than that; a good end is 100."""
    if task.status == "complete":
        return 100.0 if task.progress is not None or task.step_count else None
    if task.progress is not None:
        return min(max(task.progress, 0.0), 100.0) if task.progress == task.progress else None
    if task.step_index and task.step_count and 0 < task.step_index <= task.step_count:
        # A step under way is not done.
        return 100.0 * (task.step_index - 1) / task.step_count
    return None


def bar(share: float, width: int, *, full: str = "█", empty: str = "░") -> str:
    """Draw a share (0 to 1) as a bar; full only when it is."""
    done = int(min(max(share, 0.0), 1.0) * width + 1e-9)
    return full * done + empty * (width - done)


def count(n: int) -> str:
    """Write a number of tokens as people say it: 950, 12.4k, 1.2M."""
    if abs(n) < 1_000:
        return str(n)
    for size, unit in ((1e3, "k"), (1e6, "M"), (1e9, "G")):
        if abs(n) < size * 999.5:
            shown = f"{n / size:.1f}" if abs(n) < size * 99.95 else f"{n / size:.0f}"
            return shown.removesuffix(".0") + unit
    return f"{n / 1e12:.3g}T"


def window(task: Task) -> str:
    """Write the size of the context window, and how it is known: ``200k (table)``; empty when unknown."""
    if not task.context_window_tokens:
        return ""
    return count(task.context_window_tokens) + (f" ({task.context_window_source})" if task.context_window_source else "")


def forecast(task: Task) -> str:
    """Write when the window will be as full as is warned of: ``85 % in about 3 calls, 40s``; empty when nothing is to be said."""
    told = task.context_forecast
    if told is None or is_final(task):
        return ""
    calls = f"{line(told.limit, 40)} in about {told.calls} call{'s' if told.calls != 1 else ''}"
    return f"{calls}, {elapsed(timedelta(seconds=told.seconds))}" if told.seconds >= 1 else calls


def cost(task: Task) -> str:
    """Write what is known of the cost, and of how many calls it is not: ``$0.41 + 2 calls unpriced``; empty when unknown."""
    if task.cost_usd is None:
        return ""
    n = task.unpriced_calls
    return money(task.cost_usd) + (f" + {n} call{'s' if n != 1 else ''} unpriced" if n else "")


def money(usd: Decimal) -> str:
    """Write dollars: cents where cents matter, more digits below one."""
    if usd and abs(usd) < Decimal("0.01"):
        return f"${usd:.4f}" if abs(usd) >= Decimal("0.0001") else "<$0.0001"
    return f"${usd:,.2f}"


def elapsed(span: timedelta) -> str:
    """Write a duration in its two largest units: 42s, 3m 07s, 2h 05m, 4d 03h."""
    seconds = max(int(span.total_seconds()), 0)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60:02d}s"
    if seconds < 86_400:
        return f"{seconds // 3600}h {seconds % 3600 // 60:02d}m"
    return f"{seconds // 86_400}d {seconds % 86_400 // 3600:02d}h"


def age(task: Task, now: datetime | None) -> timedelta | None:
    """Return how long the run took, or has taken until `now` (without it: until it was last heard)."""
    end = task.ended_at if is_final(task) else (now or task.last_event_at)
    return None if task.started_at is None or end is None else end - task.started_at


def step(task: Task, limit: int = 100) -> str:
    """Return ``2/5 Fetch data``, as much of it as is known."""
    name = line(task.step_name or "", limit)
    if task.step_index is None:
        return name
    place = f"{task.step_index}/{task.step_count}" if task.step_count else str(task.step_index)
    return f"{place} {name}".strip()


def tokens(task: Task) -> str:
    """Return ``188k in · 4.2k out``; empty when unknown, which is never 0."""
    parts = []
    if task.input_tokens is not None:
        parts.append(f"{count(task.input_tokens)} in")
    if task.output_tokens is not None:
        parts.append(f"{count(task.output_tokens)} out")
    return " · ".join(parts)


def agents(n: int) -> str:
    """Return ``1 agent``, ``8 agents``."""
    return f"{n} agent" if n == 1 else f"{n} agents"


_COUNT_OF_AGENTS = re.compile(r"(?:\d{1,6} of \d{1,6} agents|an agent) at work(?::|$)")


def is_count_of_agents(action: str) -> bool:
    """Tell whether an action was made up from the agents that are at work (`fold.closing`)."""
    return _COUNT_OF_AGENTS.match(action) is not None


def at_work(children: Sequence[Task]) -> str:
    """Return what the child tasks do together: ``1 of 2 agents at work``, ``2 of 8 agents failed``."""
    if not children:
        return ""
    open_ = sum(not is_final(c) for c in children)
    failed = sum(c.status == "error" for c in children)
    parts = [f"{open_} of {agents(len(children))} at work" if open_ else f"{agents(len(children))} done"]
    if failed:
        parts.append(f"{failed} failed")
    return ", ".join(parts)


def with_children(task: Task, children: Sequence[Task]) -> str:
    """Return what a task came to with all tasks below it: ``together 188k in · 4.2k out, $0.41``; empty when they add nothing."""
    if not children:
        return ""
    sums = together((task, *children))
    shown = msgspec.structs.replace(
        task,
        input_tokens=sums.usage.input,
        output_tokens=sums.usage.output,
        cost_usd=sums.usage.cost_usd,
        unpriced_calls=sums.unpriced_calls,
    )
    told = [part for part in (tokens(shown), cost(shown)) if part]
    is_more = (sums.usage.input, sums.usage.cost_usd) != (task.input_tokens, task.cost_usd)
    return f"together {', '.join(told)}" if told and is_more else ""


def host(url: str, limit: int = 253) -> str:
    """Return where an address leads that `redact.link` let through: its host, in ASCII, so that no letter poses as another.

    Of a long one the end is kept: the beginning is chosen by whoever has the domain.
    """
    said = urlsplit(url).hostname or ""
    if not said.isascii():
        try:
            said = said.encode("idna").decode()
        except UnicodeError:
            said = said.encode("ascii", "backslashreplace").decode()
    return said if len(said) <= limit else ELLIPSIS + said[1 - limit :]


def links(task: Task, most: int, limit: int = 300) -> list[tuple[str, str]]:
    """Return (label, address) of the links worth showing, unsafe ones left out."""
    shown = []
    for name, url in task.links.items():
        if (safe := link(str(url), limit)) is not None:
            shown.append((line(name, 40) or host(safe), safe))
        if len(shown) == most:
            break
    return shown


def results(task: Task, most: int = 8) -> list[tuple[str, str]]:
    """Return (name, value) of the figures of the end; ``x_before`` and ``x_after`` are one: ``x  840 → 310``."""
    shown: list[tuple[str, str]] = []
    for name, value in task.results.items():
        stem = name.removesuffix("_after")
        if stem != name and f"{stem}_before" in task.results:
            continue
        said, whole = line(figure(value), 80), name.removesuffix("_before")
        if whole != name and f"{whole}_after" in task.results:
            name, said = whole, f"{said} → {line(figure(task.results[f'{whole}_after']), 80)}"
        shown.append((line(name, 40), said))
    return shown[:most]


def figure(value: object) -> str:
    """Write a value as people read it: a float without its noise."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def figures(task: Task, now: datetime | None = None, *, context: bool = True) -> list[str]:
    """Return tokens, cost, calls and time, each only where it is known."""
    parts = []
    share = task.context_share
    if context and share is not None and task.context_window_tokens:
        parts.append(f"context {100 * share:.0f} % of {window(task)}")
        if said := forecast(task):
            parts.append(said)
    if said := tokens(task):
        parts.append(said)
    if task.cost_usd is not None:
        parts.append(cost(task))
    if task.tool_calls:
        failed = f" ({task.tool_errors} failed)" if task.tool_errors else ""
        parts.append(f"{task.tool_calls} tool call{'s' if task.tool_calls != 1 else ''}{failed}")
    if (span := age(task, now)) is not None:
        parts.append(elapsed(span))
    return parts


def heat(task: Task) -> str:
    """Return the sign of a context that fills; empty while there is room."""
    share = task.context_share
    return "" if share is None or share < WARM else "🔴" if share >= HOT else "🟡"


def context_bar(task: Task, width: int = 10, *, is_short: bool = False) -> str:
    """Write how full the context is: ``context ▰▰▰▱▱▱▱▱▱▱ 31 % of 200k (table)``; empty when unknown."""
    share = task.context_share
    if share is None or not task.context_window_tokens:
        return ""
    drawn = f"context {bar(share, width, full='▰', empty='▱')} {100 * share:.0f} %"
    return drawn if is_short else f"{drawn} of {window(task)}"


def sentence(task: Task) -> str:
    """Say the task's state in one line: what a notification or a list shows."""
    shown = task_look(task)
    parts = [f"{shown.emoji} {title(task)}: {shown.word}"]
    done = percent(task)
    if done is not None and not is_final(task):
        parts.append(f"{done:.0f} %")
    if is_final(task):
        if task.error and (why := line(task.error.message or task.error.type, 120)):
            parts.append(why)
    elif doing := (line(task.action or "", 120) or step(task)):
        parts.append(doing)
    return " · ".join(parts)
