"""A task in each of its states, made up: what a message looks like before there is an agent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid5

import msgspec

from spanpost.domain.checkpoints import Checkpoint, Kind
from spanpost.domain.readings import Approval, Artifact, Failure
from spanpost.domain.tasks import Step, Task

_IDS = UUID("0b0e3f0e-6f3c-4a4e-9b65-6d6f6b1c2a77")
_NOON = datetime(2026, 8, 3, 12, 0, tzinfo=UTC)
_STEPS = ("Read the alert", "Find the change", "Write the fix", "Run the tests", "Open the pull request")
_LOG = """Traceback (most recent call last):
  File "deploy.py", line 81, in roll_out
    raise RolloutFailed(canary)
RolloutFailed: canary at 12 % errors, 1 % allowed"""


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the gallery, with its sub-agents and its news."""

    caption: str
    task: Task
    children: Sequence[Task] = ()
    news: Sequence[Checkpoint] = ()


def gallery() -> list[Piece]:
    """Return one piece for each status, and one for a failure among several agents."""
    return [
        Piece(caption="starting", task=_task("starting", None)),
        Piece(
            caption="working",
            task=_task("working", 2, action="Editing billing/prices.py"),
            news=[_news("working", "Found it: #4123")],
        ),
        Piece(
            caption="working, with sub-agents",
            task=_task("working", None, action="2 of 3 agents", child_count=3),
            children=[
                _child("researcher", "complete"),
                _child("coder", "working", "pytest tests/billing"),
                _child("reviewer", "waiting", "Is rounding to cents meant?"),
            ],
        ),
        _waiting(),
        Piece(caption="paused", task=_task("paused", 3)),
        Piece(
            caption="stalled",
            task=_task("stalled", 3, is_inferred=True),
            news=[_news("stalled", "nothing heard for 10m 00s", Kind.STALLED)],
        ),
        Piece(
            caption="context filling",
            task=_task("context_warning", 4, action="Reading tests/", context_used_tokens=172_000),
            news=[_news("context_warning", "the context window is 86 % full: 172k of 200k tokens", Kind.CONTEXT_WARNING)],
        ),
        _failed(),
        _complete(),
        Piece(
            caption="complete, though a part failed",
            task=_task("complete", None, child_count=2, child_failed=1),
            children=[_child("researcher", "complete"), _child("coder", "error")],
        ),
        Piece(caption="cancelled", task=_task("cancelled", 3), news=[_news("cancelled", "cancelled by mina", Kind.END)]),
    ]


def _waiting() -> Piece:
    asked = Approval(
        id="a-1",
        question="Deploy 1.8.2 to production?",
        detail="2 files changed, 31 tests passed, canary 5 %",
        risk="high",
        options=("deploy", "wait for Monday"),
    )
    news = _news("waiting", asked.question, Kind.APPROVAL_REQUESTED, detail=asked.detail, ref=asked.id)
    return Piece(caption="waiting for a person", task=_task("waiting", 4, approvals=(asked,)), news=[news])


def _failed() -> Piece:
    failure = Failure(type="RolloutFailed", message="canary at 12 % errors, 1 % allowed", log_tail=_LOG)
    task = _task("error", 4, error=failure)
    return Piece(caption="failed", task=task, news=[_news("error", f"{failure.type}: {failure.message}", Kind.END, detail=_LOG)])


def _complete() -> Piece:
    made = Artifact(name="Prices are rounded once", uri="https://git.example/shop/pull/4123", kind="pr")
    task = _task("complete", 5, artifacts=(made,), results={"p99_ms_before": 840, "p99_ms_after": 310})
    news = [
        _news("working", f"made {made.name}", Kind.ARTIFACT, ref=made.uri),
        _news("complete", "Checkout is quick again", Kind.END),
    ]
    return Piece(caption="complete", task=task, news=news)


def _task(status: str, step: int | None, **more: object) -> Task:
    uid = uuid5(_IDS, repr((status, step, sorted(more))))
    now = _NOON + timedelta(minutes=2 * (step or 0), seconds=41)
    task = Task(
        uid=uid,
        tenant="default",
        task_id=str(uid),
        name="Checkout is slow since 1.8.1",
        agent_name="auto-ops",
        repo="shop/checkout",
        requested_by="mina",
        status=status,
        started_at=_NOON,
        last_event_at=now,
        ended_at=now if status in ("complete", "error", "cancelled") else None,
        links={"run": "https://ci.example/runs/812"},
    )
    if step is not None:
        steps = tuple(Step(name=name, index=i) for i, name in enumerate(_STEPS[:step], 1))
        about = {"steps": steps, "step_name": _STEPS[step - 1], "step_index": step, "step_count": len(_STEPS)}
        task = msgspec.structs.replace(task, **about)
    if status != "starting":
        figures = {"model": "gpt-4o", "input_tokens": 61_200, "output_tokens": 4_100, "cost_usd": Decimal("0.19"), "llm_calls": 14}
        task = msgspec.structs.replace(
            task, tool_calls=22, context_used_tokens=31_000, context_window_tokens=200_000, context_window_source="table", **figures
        )
    return msgspec.structs.replace(task, **more)


def _child(name: str, status: str, action: str | None = None) -> Task:
    uid = uuid5(_IDS, name)
    return Task(
        uid=uid, tenant="default", task_id=str(uid), name=name, agent_name=name, status=status, action=action, started_at=_NOON
    )


def _news(status: str, text: str, kind: Kind = Kind.CHECKPOINT, *, detail: str = "", ref: str = "") -> Checkpoint:
    uid = uuid5(_IDS, text)
    return Checkpoint(id=uid, tenant="default", task_uid=uid, kind=kind, status=status, text=text, at=_NOON, detail=detail, ref=ref)
