"""The public JSON form: keys, order, and null for what is not known."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.readings import Approval, Artifact, Failure
from spanpost.model.tasks import Step, Task
from spanpost.tasks.json_form import report, rfc3339, task_json
from spanpost.text.wording import message, worded

UID = UUID(int=1)
KEYS = [
    "task_id",
    "parent_task_id",
    "title",
    "name",
    "agent_name",
    "status",
    "end_reason",
    "inferred",
    "progress",
    "last_checkpoint",
    "last_checkpoint_at",
    "named",
    "ask",
    "answer",
    "started_at",
    "ended_at",
    "last_activity_at",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_usd",
    "unpriced_calls",
    "context_used_tokens",
    "context_window_tokens",
    "context_window_source",
    "context_forecast",
    "loop",
    "model",
    "llm_calls",
    "tool_calls",
    "tool_errors",
    "steps",
    "artifacts",
    "approvals",
    "error",
    "session_id",
    "retry_of",
    "caused_by",
    "order_id",
    "totals",
]


def test_an_unknown_task_is_null_all_over() -> None:
    """Keys are in the public order; unknown values are null, and counts are numbers."""
    written = task_json(Task(uid=UID, tenant="default", task_id="t"))
    assert list(written) == KEYS
    assert {key for key, value in written.items() if value is not None} == {
        "task_id", "title", "status", "inferred", "named", "unpriced_calls", "llm_calls", "tool_calls", "tool_errors",
        "steps", "artifacts", "approvals",
    }  # fmt: skip


def test_a_known_task_is_written_in_full() -> None:
    """Times are RFC 3339 in UTC, costs are JSON numbers, parts are objects."""
    at = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=timezone(timedelta(hours=2)))
    task = Task(
        uid=UID,
        tenant="default",
        task_id="t",
        started_at=at,
        cost_usd=Decimal("0.0125"),
        steps=(Step(name="plan", index=1, at=at),),
        artifacts=(Artifact(name="a", uri="https://x/1"),),
        approvals=(Approval(id="q", question="sure?", options=("yes", "no")),),
        error=Failure(type="E", message="m"),
    )
    written = json.loads(json.dumps(task_json(task)))
    assert written["started_at"] == "2026-01-02T01:04:05.600000Z"
    assert written["cost_usd"] == 0.0125
    assert written["steps"] == [
        {"name": "plan", "index": 1, "at": "2026-01-02T01:04:05.600000Z", "count": 1, "failed": False}
    ]
    assert written["artifacts"] == [{"name": "a", "uri": "https://x/1", "kind": None}]
    assert written["approvals"][0]["options"] == ["yes", "no"]
    assert written["approvals"][0]["decision"] is None
    assert written["error"] == {"type": "E", "message": "m", "log_tail": None}


def test_a_report_joins_checkpoints_to_public_ids() -> None:
    """A checkpoint names its task by the public id; losses are sorted; `explain` adds the rule."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    text, locale_message = worded(message("checkpoint.started", name="go"))
    checkpoint = Checkpoint(
        id=UUID(int=9),
        tenant="default",
        task_uid=UID,
        kind=Kind.START,
        status="working",
        text=text,
        message=locale_message,
        at=at,
    )
    written = report(
        [Task(uid=UID, tenant="default", task_id="t", rule="r")],
        [checkpoint],
        {"b": 1, "a": 2},
        explained={UID: {"why": "w"}},
    )
    assert list(written) == ["tasks", "checkpoints", "dropped"]
    assert written["checkpoints"] == [
        {
            "id": str(UUID(int=9)),
            "task_id": "t",
            "kind": "start",
            "status": "working",
            "text": "Started: go",
            "message": "checkpoint.started",
            "values": {"name": "go"},
            "at": "2026-01-02T00:00:00Z",
        }
    ]
    assert list(written["dropped"]) == ["a", "b"]
    assert written["tasks"][0]["rule"] == "r"


def test_the_totals_of_a_parent_include_all_below_it() -> None:
    """A parent's totals add the figures of every task below it once, also where parents form a ring."""

    def one(n: int, parent: int | None, tokens: int | None, cost: str | None) -> Task:
        above = None if parent is None else UUID(int=parent)
        usd = None if cost is None else Decimal(cost)
        return Task(
            uid=UUID(int=n),
            tenant="t",
            task_id=str(n),
            parent_uid=above,
            input_tokens=tokens,
            cost_usd=usd,
            llm_calls=1,
            unpriced_calls=cost is None,
        )

    written = report(
        [one(1, None, 10, "0.5"), one(2, 1, None, None), one(3, 2, 5, "0.25"), one(4, 5, 1, None), one(5, 4, 2, None)],
        [],
        {},
    )
    by_id = {task["task_id"]: task["totals"] for task in written["tasks"]}
    shown = {
        n: t and (t["tasks"], t["llm_calls"], t["input_tokens"], t["output_tokens"], t["cost_usd"], t["unpriced_calls"])
        for n, t in by_id.items()
    }
    assert shown == {
        "1": (3, 3, 15, None, 0.75, 1),
        "2": (2, 2, 5, None, 0.25, 1),
        "3": None,
        "4": (2, 2, 3, None, None, 2),
        "5": (2, 2, 3, None, None, 2),
    }


def test_no_time_is_null() -> None:
    """An unknown time is null."""
    assert rfc3339(None) is None
