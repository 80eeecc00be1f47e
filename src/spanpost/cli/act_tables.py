"""Tables of acts, and of content that was read, in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from spanpost.cli.columns import out
from spanpost.cli.tables import titled
from spanpost.text.sanitise import line


def print_acts(acts: Sequence[Mapping[str, Any]]) -> None:
    """Print acts, as the API's JSON has them."""
    table = titled("when", "who", "did", "result", "from", "task", "what was shown, and said")
    for one in acts:
        cells = one["recorded_at"][:19], who(one), did(one), came(one), whence(one), _task(one), _said(one)
        table.add_row(*(Text(line(str(cell), 300)) for cell in cells))
    out().print(table)


def print_reads(reads: Sequence[Mapping[str, Any]]) -> None:
    """Print who read content."""
    table = titled("hour", "who", "read", "times", "by", "task", "last")
    for one in reads:
        credential = " ".join(filter(None, (one["credential"], one["client"] and f"({one['client']})")))
        cells = one["hour"][:16], who(one), one["content"], one["reads"], credential, _task(one), one["detail"] or ""
        table.add_row(*(Text(line(str(cell), 300)) for cell in cells))
    out().print(table)


def who(one: Mapping[str, Any]) -> str:
    """Return the name and the identity of an act's person."""
    name, id = one["actor"] or "", one["actor_id"] or ""
    return f"{name} ({id})" if id and id != name else name


def did(one: Mapping[str, Any]) -> str:
    """Return the act in words: its verb, and its answer, scope or launcher."""
    decision = one["decision"] if one["decision"] not in (one["verb"], None) else ""
    scope = one["scope"] if one["scope"] not in ("once", None) else ""
    return " ".join(filter(None, (one["verb"], decision, scope, one["launcher"])))


def came(one: Mapping[str, Any]) -> str:
    """Return what came of an act: its result, why it was refused, what it started."""
    order = f"order {one['order_id']}" if one["order_id"] else ""
    return ", ".join(filter(None, (one["result"], one["refusal"], order)))


def whence(one: Mapping[str, Any]) -> str:
    """Return where an act came from, and what proved the identity."""
    where = f"{one['source']} ({one['client']})" if one["client"] else str(one["source"] or "")
    return ", ".join(filter(None, (where, one["credential"], one["os_user"])))


def _task(one: Mapping[str, Any]) -> str:
    return str(one["task_name"] or one["task_id"] or one["task_uid"] or "")


def _said(one: Mapping[str, Any]) -> str:
    question = f"{one['question']} [{one['mark'][:8]}]" if one["question"] and one["mark"] else one["question"]
    comment = f"“{one['comment']}”" if one["comment"] else ""
    parameters = " ".join(f"{name}={value}" for name, value in one["parameters"].items())
    return " · ".join(filter(None, (question, one["detail"], parameters, comment)))
