"""The public JSON form: keys, order, and null for what is not known."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

from spanpost.domain.checkpoints import Checkpoint, Kind
from spanpost.domain.readings import Approval, Artifact, Failure
from spanpost.domain.tasks import Step, Task
from spanpost.fold.report import report, rfc3339, task_json

UID = UUID(int=1)
KEYS = [
    "task_id",
    "parent_task_id",
    "name",
    "agent_name",
    "status",
    "end_reason",
    "inferred",
    "progress",
    "started_at",
    "ended_at",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "reasoning_tokens",
    "cost_usd",
    "context_used_tokens",
    "context_window_tokens",
    "model",
    "llm_calls",
    "tool_calls",
    "tool_errors",
    "steps",
    "artifacts",
    "approvals",
    "error",
    "session_id",
]


def test_an_unknown_task_is_null_all_over() -> None:
    """Keys stand in the public order; what is not known is null, and counts are numbers."""
    told = task_json(Task(uid=UID, tenant="default", task_id="t"))
    assert list(told) == KEYS
    assert {key for key, value in told.items() if value is not None} == {
        "task_id", "status", "inferred", "llm_calls", "tool_calls", "tool_errors", "steps", "artifacts", "approvals",
    }  # fmt: skip


def test_a_known_task_is_told_in_full() -> None:
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
    told = json.loads(json.dumps(task_json(task)))
    assert told["started_at"] == "2026-01-02T01:04:05.600000Z"
    assert told["cost_usd"] == 0.0125
    assert told["steps"] == [{"name": "plan", "index": 1, "at": "2026-01-02T01:04:05.600000Z"}]
    assert told["artifacts"] == [{"name": "a", "uri": "https://x/1", "kind": None}]
    assert told["approvals"][0]["options"] == ["yes", "no"]
    assert told["approvals"][0]["decision"] is None
    assert told["error"] == {"type": "E", "message": "m", "log_tail": None}


def test_a_report_joins_checkpoints_to_public_ids() -> None:
    """A checkpoint names its task by the public id; losses are sorted; `explain` adds the rule."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    news = Checkpoint(id=UUID(int=9), tenant="default", task_uid=UID, kind=Kind.START, status="working", text="go", at=at)
    told = report([Task(uid=UID, tenant="default", task_id="t", rule="r")], [news], {"b": 1, "a": 2}, explained={UID: {"why": "w"}})
    assert list(told) == ["tasks", "checkpoints", "lost"]
    assert told["checkpoints"] == [
        {"id": str(UUID(int=9)), "task_id": "t", "kind": "start", "status": "working", "text": "go", "at": "2026-01-02T00:00:00Z"}
    ]
    assert list(told["lost"]) == ["a", "b"]
    assert told["tasks"][0]["rule"] == "r"


def test_no_time_is_null() -> None:
    """A time that is not known has no text."""
    assert rfc3339(None) is None
