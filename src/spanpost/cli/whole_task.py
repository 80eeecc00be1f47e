"""One task in a terminal: its state, the tasks below it, errors, questions, figures, links and timeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.text import Text

from spanpost.cli import columns as c
from spanpost.cli.columns import Column
from spanpost.cli.looking import WholeTask
from spanpost.cli.remote import task_of
from spanpost.cli.task_lines import COLUMNS, matter, rows_of, status_of
from spanpost.model.tasks import Task
from spanpost.model.totals import together
from spanpost.sinks import labels
from spanpost.text.locales import ENGLISH
from spanpost.text.sanitise import line, link, strip

#: Lines of an error, and of the end of its log.
_LINES: Final = 30
#: Width of the names of facts.
_NAME: Final = 10


def print_whole(found: WholeTask, *, is_ascii: bool = False, console: Console | None = None) -> None:
    """Print a whole task."""
    console = console or c.out()
    is_ascii = is_ascii or c.speaks_ascii()
    now = datetime.now(UTC)
    for said in head(found, now):
        console.print(c.in_ascii(said) if is_ascii else said, soft_wrap=True)
    tasks = [task_of(one) for one in (found.task, *found.below)]
    if found.below:
        console.print()
        c.print_fitted(COLUMNS, rows_of(tasks, now), is_ascii=is_ascii, console=console)
    if found.task["approvals"]:
        console.print()
        for said in _questions(found.task["approvals"], now):
            console.print(c.in_ascii(said) if is_ascii else said, soft_wrap=True)
    if found.timeline:
        console.print()
        c.print_fitted(_TIMELINE, _timeline(found.timeline), is_ascii=is_ascii, console=console)


def head(found: WholeTask, now: datetime) -> Iterator[Text]:
    """Yield the lines above the tables: title, what matters now, facts and errors."""
    one, task = found.task, task_of(found.task)
    sign, word = c.signed(labels.task_label(task), status_of(task))
    yield Text.assemble(sign, " ", (labels.title(task, 120), "bold"), "  ", word)
    if now_matters := matter(task, 300):
        yield Text(f"{' ' * (sign.cell_len + 1)}{now_matters}")
    for name, said in _facts(one, task, found.below, now):
        if said:
            yield Text.assemble((f"{name:<{_NAME}}", "dim"), said)
    yield from _error(one.get("error") or {})


def _together(task: Task, children: Sequence[Task]) -> str:
    """Return the tokens and the cost of a task and all tasks below it; empty if they add nothing."""
    sums = together((task, *children))
    if (sums.usage.input, sums.usage.cost_usd) == (task.input_tokens, task.cost_usd):
        return ""
    shown = msgspec.structs.replace(
        task,
        input_tokens=sums.usage.input,
        output_tokens=sums.usage.output,
        cost_usd=sums.usage.cost_usd,
        unpriced_calls=sums.unpriced_calls,
    )
    return ", ".join(filter(None, (labels.tokens(shown), labels.cost(shown))))


def _facts(
    one: Mapping[str, Any], task: Task, below: Sequence[Mapping[str, Any]], now: datetime
) -> Iterator[tuple[str, str]]:
    yield "agent", line(" ".join(filter(None, (one["agent_name"], one.get("agent_version")))), 120)
    yield "of", " · ".join(filter(None, (line(one[name] or "", 80) for name in ("repo", "service", "environment"))))
    yield "for", line(one["requested_by"] or "", 120)
    yield "step", _step(one)
    yield "last", _last(one, now)
    began, ended = task.started_at, task.ended_at
    if began is not None:
        took = ""
        if ended is not None and labels.is_final(task):
            took = f", took {ENGLISH.duration((ended - began).total_seconds())}"
        yield "started", f"{c.time_of(began)} ({c.ago(began, now)} ago){took}"
    if not labels.is_final(task) and one.get("last_activity_at"):
        yield "quiet for", c.ago(datetime.fromisoformat(one["last_activity_at"]), now)
    own = [part for part in (labels.tokens(task), labels.cost(task), labels.tools(task)) if part]
    calls = f"{task.llm_calls} model call{'s' if task.llm_calls != 1 else ''}" if task.llm_calls else ""
    yield "cost", ", ".join(filter(None, (*own, calls)))
    yield "together", _together(task, [task_of(each) for each in below])
    if (share := task.context_share) is not None:
        said = ", ".join(filter(None, (labels.window(task), labels.forecast(task))))
        yield "context", f"{100 * share:.0f} % of {said}"
    yield "model", line(one["model"] or "", 120)
    for artifact in one["artifacts"]:
        yield "artifact", "  ".join(filter(None, (line(artifact["name"], 120), link(artifact["uri"] or "", 500))))
    for name, value in one["results"].items():
        yield "result", f"{line(str(name), 60)} {line(labels.figure(value), 200)}"
    for name, url in one["links"].items():
        if (safe := link(str(url), 500)) is not None:
            yield "link", f"{line(str(name), 60)}  {safe}"
    for evaluation in one.get("evaluations", ())[:5]:
        by = f" by {line(evaluation['by'], 60)}" if evaluation["by"] else ""
        value = evaluation["label"] or evaluation["score"]
        yield "rated", f"{line(evaluation['name'], 60)}: {line(str(value), 60)}{by}"
    for name in ("retry_of", "caused_by"):
        yield name.replace("_", " "), line(one[name] or "", 120)
    for each in one["followed_by"]:
        yield "then", f"{c.short(each['uid'])} {line(each['name'] or each['task_id'], 80)}: {line(each['status'], 30)}"
    yield "id", f"{c.short(one['uid'])}  {line(one['task_id'], 300)}"
    yield "trace", line(one["trace_id"] or "", 60)


def _step(one: Mapping[str, Any]) -> str:
    index, count = one["step_index"], one["step_count"]
    place = f"{index} of {count}" if index and count else str(index or "")
    done = f"{one['progress']:.0f} %" if one["progress"] is not None else ""
    return " · ".join(filter(None, (place, line(one["step_name"] or "", 120), done)))


def _last(one: Mapping[str, Any], now: datetime) -> str:
    said, at = line(one.get("last_checkpoint") or "", 300), one.get("last_checkpoint_at")
    return f"{said} ({c.ago(datetime.fromisoformat(at), now)} ago)" if said and at else said


def _error(error: Mapping[str, Any]) -> Iterator[Text]:
    """Yield an error with the end of its log; each line stands behind a bar: it is the agent's."""
    for name, said in (("error", _reason(error)), ("log", error.get("log_tail") or "")):
        lines = strip(said).splitlines()
        for n, text in enumerate(lines[-_LINES:]):
            indent = " " * min(len(text) - len(text.lstrip(" ")), _NAME)  # a stack trace is read by it
            yield Text.assemble((f"{name if n == 0 else '':<{_NAME}}", "red"), "│ ", indent, line(text, 500))


def _reason(error: Mapping[str, Any]) -> str:
    kind, message = error.get("type") or "", error.get("message") or ""
    return message if message.startswith(kind) else ": ".join(filter(None, (kind, message)))


def _questions(found: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[Text]:
    """Yield questions, each with who decided it, or how to answer it."""
    for one in found:
        asked = c.ago(datetime.fromisoformat(one["requested_at"]), now)
        risk = f" · risk {line(one['risk'], 30)}" if one["risk"] else ""
        yield Text.assemble(
            ("question  ", "dim"), "│ ", line(one["question"] or "", 500), (f" · {asked} ago{risk}", "dim")
        )
        if one["detail"]:
            for text in strip(one["detail"]).splitlines()[:_LINES]:
                yield Text(f"{'':<{_NAME}}│ {line(text, 500)}")
        if one["state"] == "open":
            answers = ", ".join(line(option, 60) for option in one["options"]) or "approve, deny"
            yield Text.assemble(("  answer  ", "yellow"), f"spanpost decide {c.short(one['key'])} <{answers}>")
        elif one["decision"]:
            by = f" by {line(one['by'], 80)}" if one["by"] else ""
            comment = f": {line(one['comment'], 300)}" if one["comment"] else ""
            yield Text.assemble((f"  {line(one['state'], 8):<8}", "dim"), f"{line(one['decision'], 80)}{by}{comment}")
        else:
            yield Text.assemble(("  state   ", "dim"), line(one["state"], 30))


_TIMELINE: Final = (
    Column("day", at=120),
    Column("at"),
    Column(""),
    Column("kind", most=18),
    Column("took", is_right=True),
    Column("what", is_flexible=True),
)


def _timeline(entries: Sequence[Mapping[str, Any]]) -> list[list[Text | str]]:
    rows: list[list[Text | str]] = []
    for one in entries:
        day, _, at = c.time_of(datetime.fromisoformat(one["at"])).partition(" ")
        status = one["status"] or ""
        if one["source"] == "checkpoint":
            sign, _ = c.signed(labels.end_label(status, one.get("message")), "")
        else:
            sign = Text("✗", style="red") if status == "error" else Text("")
        by = f"by {one['by']}: {one['result']}" if one["by"] else ""
        said = "  ".join(line(part or "", 300) for part in (one["text"], by, one["detail"]) if part)
        took = ENGLISH.duration(float(one["seconds"])) if one["seconds"] is not None else ""
        rows.append([day, at, sign, line(one["kind"], 30), took, said])
    return rows
