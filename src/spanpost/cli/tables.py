"""Tables of tasks, checkpoints and deliveries in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spanpost.cli.columns import Column, ago, out, print_fitted, short, signed, span, time_of
from spanpost.model.access_tokens import AccessToken
from spanpost.model.checkpoints import Checkpoint
from spanpost.model.deliveries import DeliveryRow, RateLimitRow
from spanpost.model.errors import ConfigError
from spanpost.sinks.labels import end_label
from spanpost.text.legible import Hidden, legible
from spanpost.text.locales.questions import why_hidden
from spanpost.text.sanitise import line


def print_checkpoints(checkpoints: Sequence[Checkpoint], names: Mapping[object, str]) -> None:
    """Print checkpoints in order of time, one line each."""
    columns = (
        Column("day", at=120),
        Column("at"),
        Column(""),
        Column("status", at=110),
        Column("kind", at=100),
        Column("task", most=24),
        Column("text", is_flexible=True),
    )
    rows: list[list[Text | str]] = []
    for one in checkpoints:
        day, _, at = time_of(one.at).partition(" ")
        name = line(names.get(one.task_uid, ""), 60)
        sign = end_label(one.status, one.message.key if one.message is not None else "")
        rows.append([day, at, *signed(sign, one.status), str(one.kind), name, line(one.text, 120)])
    print_fitted(columns, rows)


def print_questions(found: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Print questions to people, one line each; a mark shows that more text exists."""
    columns = (
        Column("asked", is_right=True),
        Column("state", most=24),
        Column("question", is_flexible=True),
        Column("answers", at=100, most=30),
        Column("risk", most=8),
        Column("left", is_right=True),
        Column("agent", most=14),
        Column("task", at=120, most=32),
        Column("id"),
        Column("its id", at=160),
    )
    rows: list[list[Text | str]] = []
    is_open = all(one["state"] == "open" for one in found)
    for one in found:
        state = one["state"] + (f": {one['decision']} by {one['by'] or '?'}" if one["decision"] else "")
        until = datetime.fromisoformat(one["expires_at"]) if one["expires_at"] and one["state"] == "open" else None
        rows.append(
            [
                ago(datetime.fromisoformat(one["requested_at"]), now),
                "" if is_open else line(state, 60),
                Text(line(one["question"] or "", 100) + (" […]" if _has_more(one) else "")),
                line(", ".join(one["options"]) or "approve, deny", 60),
                line(one["risk"] or "", 20),
                span(until - now) if until is not None else "",
                line(one["agent_name"] or "", 30),
                line(one["task_name"] or one["task_id"] or "", 60),
                short(one["key"]),
                line(one["id"], 60),
            ]
        )
    print_fitted(columns, rows)
    if any(map(_has_more, found)):
        print("`spanpost approvals show <id>` shows the whole of a question", file=sys.stderr)


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
    """Print standing approvals, one line each."""
    columns = (
        Column("id"),
        Column("tool", is_flexible=True),
        Column("scope"),
        Column("agent", most=16),
        Column("in", at=100, most=24),
        Column("risk", at=100, most=8),
        Column("by", most=16),
        Column("until", most=28),
        Column("used", is_right=True),
        Column("reason", at=120, is_flexible=True),
    )
    rows: list[list[Text | str]] = []
    for one in found:
        until = f"revoked by {one['revoked_by']}" if one["revoked_at"] else one["expires_at"][:16] + "Z"
        texts = (one["tool"], one["scope"], one["agent"], one["repo"] or one["service"], one["risk"], one["granted_by"])
        said = [line(text or "", 60) for text in texts]
        rows.append([short(one["id"]), *said, line(until, 60), str(one["used"]), line(one["reason"] or "", 60)])
    print_fitted(columns, rows)


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
    sign, word = signed(end_label(event["status"], event.get("message")), event["status"])
    at = datetime.fromisoformat(event["at"]).astimezone().strftime("%H:%M:%S")
    name = line(event["task_name"] or event["agent_name"] or event["task_id"], 40)
    out().print(
        Text(f"{at} "),
        sign,
        Text(" " * (3 - sign.cell_len)),
        Text(f"{word.plain:<16}", style=word.style),
        Text(f"{name}: ", style="bold"),
        Text(line(event["text"], 200)),
        sep="",
        soft_wrap=True,
    )


def print_deliveries(rows: Sequence[DeliveryRow], now: datetime) -> None:
    """Print deliveries for an operator, one line each."""
    columns = (
        Column("id", is_right=True),
        Column("sink", most=10),
        Column("state"),
        Column("kind", most=18),
        Column("tries", is_right=True),
        Column("age", is_right=True),
        Column("again in", is_right=True),
        Column("why", is_flexible=True),
        Column("task", at=110, most=24),
        Column("address", at=130, most=32),
        Column("born", at=180),
        Column("not before", at=200),
    )
    cells: list[list[Text | str]] = []
    for row in rows:
        why = ": ".join(filter(None, (line(row.reason, 40), line(row.error, 120))))
        is_held = row.state == "waiting" and row.not_before is not None and row.not_before > now
        cells.append(
            [
                str(row.id),
                line(row.sink, 40),
                row.state,
                row.kind,
                str(row.attempt),
                ago(row.born_at, now),
                span(row.not_before - now) if is_held and row.not_before is not None else "",
                why,
                line(row.task_id, 120),
                line(row.address, 120),
                time_of(row.born_at),
                time_of(row.not_before),
            ]
        )
    print_fitted(columns, cells)


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
