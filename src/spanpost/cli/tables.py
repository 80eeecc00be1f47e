"""Tables of tasks, checkpoints and deliveries in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spanpost.model.access_tokens import AccessToken
from spanpost.model.checkpoints import Checkpoint
from spanpost.model.deliveries import DeliveryRow, RateLimitRow
from spanpost.model.errors import ConfigError
from spanpost.model.tasks import Task
from spanpost.sinks.labels import count, forecast, status_label, window
from spanpost.sinks.loop_label import loop
from spanpost.text.legible import Hidden, legible
from spanpost.text.locales.questions import why_hidden
from spanpost.text.sanitise import line

#: Terminal names of colours that differ from ours.
_COLOURS = {"grey": "bright_black"}


def out() -> Console:
    """Return the console for data: stdout, as wide as the terminal, not cut in a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 4000)


def print_tasks(tasks: Sequence[Task], *, explain: bool = False) -> None:
    """Print tasks as a tree: child tasks stand below their parents."""
    table = titled(
        "task", "status", "progress", "calls", "tools", "tokens in/out", "cost", "context", "started", "took", "id"
    )
    if explain:
        table.add_column("decided by")
    for depth, task in _as_tree(tasks):
        shown = status_label(task.status)
        status = (
            f"{shown.emoji} {task.status}" + (" (inferred)" if task.is_inferred else "") + f" {loop(task)}".rstrip()
        )
        tools = f"{task.tool_calls}" + (f" ({task.tool_errors} failed)" if task.tool_errors else "")
        row = [
            Text("  " * depth + line(task.name or task.agent_name or "(unnamed)", 48)),
            Text(status, style=_COLOURS.get(shown.colour, shown.colour)),
            Text("" if task.progress is None else f"{task.progress:.0f} %"),
            Text(str(task.llm_calls)),
            Text(tools),
            Text(f"{_number(task.input_tokens)} / {_number(task.output_tokens)}"),
            Text("?" if task.cost_usd is None else f"${task.cost_usd:.4f}" + ("+?" if task.unpriced_calls else "")),
            Text(_context(task)),
            Text(time_of(task.started_at)),
            Text(_took(task)),
            Text(line(task.task_id, 52)),
        ]
        if explain:
            row.append(Text(task.rule))
        table.add_row(*row)
    out().print(table)


def print_explained(tasks: Sequence[Task], explained: Mapping[UUID, Mapping[str, Any]]) -> None:
    """Print the explanation of each task."""
    for _, task in _as_tree(tasks):
        why = explained.get(task.uid)
        if not why:
            continue
        print(f"\n{line(task.name or task.task_id, 80)}")
        for name in ("why", "status", "name", "tokens"):
            print(f"  {name:<7} {line(str(why[name]), 300)}")
        for merged in why["merged"]:
            print(f"  merged  {line(str(merged), 300)}")


def print_checkpoints(checkpoints: Sequence[Checkpoint], names: Mapping[object, str]) -> None:
    """Print checkpoints in order of time."""
    table = titled("at", "kind", "status", "task", "text")
    for one in checkpoints:
        shown = status_label(one.status)
        table.add_row(
            Text(time_of(one.at)),
            Text(str(one.kind)),
            Text(f"{shown.emoji} {one.status}", style=_COLOURS.get(shown.colour, shown.colour)),
            Text(line(names.get(one.task_uid, ""), 32)),
            Text(line(one.text, 120)),
        )
    out().print(table)


def print_questions(found: Sequence[Mapping[str, Any]]) -> None:
    """Print questions to people, one line each; a mark shows that more text exists."""
    table = titled("asked", "state", "question", "answers", "risk", "until", "agent", "task", "id")
    for one in found:
        state = one["state"] + (f": {one['decision']} by {one['by'] or '?'}" if one["decision"] else "")
        cells = (
            time_of(datetime.fromisoformat(one["requested_at"])),
            line(state, 60),
            line(one["question"] or "", 100) + (" […]" if _has_more(one) else ""),
            line(", ".join(one["options"]) or "approve, deny", 60),
            line(one["risk"] or "", 20),
            time_of(datetime.fromisoformat(one["expires_at"])) if one["expires_at"] else "",
            line(one["agent_name"] or "", 30),
            line(one["task_name"] or one["task_id"] or "", 40),
            line(one["id"], 60),
        )
        table.add_row(*map(Text, cells))
    out().print(table)
    if any(map(_has_more, found)):
        print("[…]: `spanpost approvals show <id>` shows the whole of it", file=sys.stderr)


def _has_more(one: Mapping[str, Any]) -> bool:
    """Return whether a question has more text than its line shows."""
    said, options = one["question"] or "", ", ".join(one["options"])
    return bool(one["detail"] or one["hidden"]) or line(said, 100) != said or line(options, 60) != options


def print_question(one: Mapping[str, Any], *, to_stderr: bool = False) -> None:
    """Print a whole question. Text of the agent stands behind a bar."""

    def quoted(title: str, said: str) -> list[str]:
        return [f"{title}:", *(f"  │ {row}" for row in legible(said).split("\n"))] if said else []

    state = one["state"] + (f": {one['decision']} by {one['by'] or '?'}" if one["decision"] else "")
    options = "\n".join(f"{n}. {option}" for n, option in enumerate(one["options"], 1))
    rows = quoted("question", one["question"] or "") + quoted("detail", one["detail"] or "")
    rows += quoted("answers", options) + quoted("tool", one["tool"] or "") + quoted("risk", one["risk"] or "")
    rows += [] if one["is_whole"] else [why_hidden([Hidden(why) for why in one["hidden"]])]
    reported = one["reported_decision"]
    about = {
        "state": line(state, 200),
        "reported": line(
            f"{reported['decision']} by {reported['by'] or '?'}, as telemetry says: not decided through spanpost", 300
        )
        if reported
        else "",
        "asked": time_of(datetime.fromisoformat(one["requested_at"])),
        "until": time_of(datetime.fromisoformat(one["expires_at"])) if one["expires_at"] else "",
        "people": f"{len(one['approved_by'])} of {one['needs']} approved" if one["needs"] > 1 else "",
        "agent": line(one["agent_name"] or "", 100),
        "task": line(one["task_name"] or one["task_id"] or "", 200),
        "id": line(one["id"], 300),
        "key": one["key"],
    }
    print(
        "\n".join([*rows, *(f"{name:<8} {said}" for name, said in about.items() if said)]),
        file=sys.stderr if to_stderr else sys.stdout,
    )


def print_standing(found: Sequence[Mapping[str, Any]]) -> None:
    """Print standing approvals."""
    table = titled("id", "tool", "scope", "agent", "in", "risk", "by", "until", "used", "reason")
    for one in found:
        until = f"revoked by {one['revoked_by']}" if one["revoked_at"] else one["expires_at"][:16] + "Z"
        texts = (one["tool"], one["scope"], one["agent"], one["repo"] or one["service"], one["risk"], one["granted_by"])
        table.add_row(
            one["id"],
            *(line(text or "", 60) for text in texts),
            line(until, 60),
            str(one["used"]),
            line(one["reason"] or "", 60),
        )
    out().print(table)


def print_installations(found: Sequence[Mapping[str, Any]]) -> None:
    """Print the workspaces in which an app is or was installed."""
    table = titled("workspace", "team", "its name", "tenant", "state", "by", "since")
    for one in found:
        state = (
            "installed"
            if one["is_used"]
            else "installed, not used"
            if one["state"] == "installed"
            else f"removed ({one['why']})"
        )
        at = one["removed_at"] or one["installed_at"]
        cells = (
            one["workspace"],
            one["team"],
            line(one["team_name"], 60),
            one["tenant"],
            state,
            one["installed_by"],
            time_of(at),
        )
        table.add_row(*map(Text, cells))
    out().print(table)


def print_event(event: Mapping[str, Any]) -> None:
    """Print a checkpoint of a stream on one line."""
    shown = status_label(event["status"])
    at = datetime.fromisoformat(event["at"]).astimezone().strftime("%H:%M:%S")
    status = Text(f"{event['status']:<15}", style=_COLOURS.get(shown.colour, shown.colour))
    name = line(event["task_name"] or event["agent_name"] or event["task_id"], 40)
    out().print(
        Text(f"{at} {shown.emoji} "),
        status,
        Text(f"{name}: ", style="bold"),
        Text(line(event["text"], 200)),
        sep="",
        soft_wrap=True,
    )


def print_deliveries(rows: Sequence[DeliveryRow]) -> None:
    """Print deliveries for an operator."""
    table = titled("id", "sink", "address", "state", "kind", "attempt", "born", "not before", "task", "reason", "error")
    for row in rows:
        table.add_row(
            *(
                Text(cell)
                for cell in (
                    str(row.id),
                    row.sink,
                    line(row.address, 120),
                    row.state,
                    row.kind,
                    str(row.attempt),
                    time_of(row.born_at),
                    time_of(row.not_before),
                    line(row.task_id, 120),
                    line(row.reason, 40),
                    line(row.error, 120),
                )
            )
        )
    out().print(table)


def print_rate_limits(rows: Sequence[RateLimitRow]) -> None:
    """Print one line for each rate limit: its rate; or until when it is closed, and why."""
    for row in rows:
        if row.state == "open":
            pace = "unlimited" if row.rate is None else f"{row.rate:g} a second, {row.burst:g} at once"
            said = f"{pace}, {row.reserve:g} of them reserved for urgent calls" if row.reserve else pace
        else:
            said = f"until {time_of(row.until)}: {row.why}" if row.until is not None else row.why
            said += "".join(f", {text}" for text in dict.fromkeys((line(row.reason, 60), line(row.error, 500))) if text)
        out().print(Text(f"{row.state:<8}"), Text(line(row.key, 120), style="bold"), Text(said), soft_wrap=True)


def print_dropped(dropped: Mapping[str, int]) -> None:
    """Print how much could not be read, by reason."""
    for reason, n in sorted(dropped.items()):
        out().print(Text(f"dropped: {n} ({reason})", style="yellow"))


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[object]], console: Console | None = None) -> None:
    """Print the rows of a query: as a table, or one below the other if a table is too wide for the terminal."""
    console = console or out()
    columns = [line(column, 200) for column in columns]
    cells = [[line(_cell(value), 200) for value in row] for row in rows]
    table = titled(*columns)
    for row in cells:
        table.add_row(*map(Text, row))
    if not cells or table.__rich_measure__(console, console.options.update(max_width=100_000)).maximum <= console.width:
        console.print(table)
        return
    wide = max(map(len, columns))
    for number, row in enumerate(cells, 1):
        console.print(Text(f"row {number}", style="bold"))
        for column, cell in zip(columns, row, strict=True):
            if cell:
                console.print(Text(f"  {column:<{wide}}  ", style="dim") + Text(cell, style="not dim"), overflow="fold")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat(" ") if isinstance(value, datetime) else str(value)


def titled(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold" if column in ("id", "text", "error") else "ellipsis")
    return table


def _as_tree(tasks: Sequence[Task]) -> Iterable[tuple[int, Task]]:
    known = {task.uid for task in tasks}
    below: dict[object, list[Task]] = {}
    for task in tasks:
        parent = task.parent_uid if task.parent_uid in known and task.parent_uid != task.uid else None
        below.setdefault(parent, []).append(task)
    seen: set[object] = set()

    waiting = [(0, task) for task in reversed(below.get(None, []))]
    while waiting:
        depth, task = waiting.pop()
        seen.add(task.uid)
        yield depth, task
        waiting.extend((depth + 1, child) for child in reversed(below.get(task.uid, [])))
    # A cycle of parents has no root; its tasks are listed too.
    yield from ((0, task) for task in tasks if task.uid not in seen)


def age(text: str, option: str) -> timedelta:
    """Return the duration of an option such as 90d, 12w or 36h. Raises `ConfigError`."""
    number, unit = text[:-1], {"h": "hours", "d": "days", "w": "weeks"}.get(text[-1:])
    if unit is None or not (number.isascii() and number.isdigit() and len(number) < 6 and int(number) > 0):
        raise ConfigError(f"{option} {text}: give a number and h, d or w, such as 90d")
    return timedelta(**{unit: int(number)})


def print_access_tokens(tokens: Sequence[AccessToken], now: datetime) -> None:
    """Print the database's tokens: never their hashes."""
    table = titled("name", "tenant", "scopes", "state", "expires", "last used", "made by")
    for one in tokens:
        state = "valid" if one.is_valid(now) else "expired" if one.revoked_at is None else "revoked"
        cells = (
            line(one.name, 120),
            line(one.tenant or "-", 120),
            ", ".join(sorted(one.scopes)),
            state,
            time_of(one.expires_at) if one.expires_at is not None else "never",
            time_of(one.used_at) if one.used_at is not None else "never",
            line(one.made_by, 60),
        )
        table.add_row(*map(Text, cells))
    out().print(table)


def _context(task: Task) -> str:
    """Return ``72% of 200k (table)``; without a known window there is no share."""
    if task.context_share is None:
        return "?" if task.context_used_tokens is None else f"{count(task.context_used_tokens)} of ?"
    share = f"{task.context_share:.0%} of {window(task)}"
    return f"{share}, {said}" if (said := forecast(task)) else share


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def time_of(at: datetime | None) -> str:
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _took(task: Task) -> str:
    if task.started_at is None or task.ended_at is None:
        return ""
    seconds = (task.ended_at - task.started_at).total_seconds()
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
