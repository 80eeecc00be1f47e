"""Claude Code's recorded sessions, by each of its signals alone and by all of them, in any order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import combinations
from random import Random
from typing import Any

import pytest

from spanpost.model.checkpoints import REPORTED_KINDS, Kind
from spanpost.model.observations import Observation, Part
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.receivers.recordings import read_recording
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.json_form import report
from spanpost.tasks.stall import NO_STALL
from tests.tasks.recorded_runs import COMMITTED, totals

RUNS = ("approve", "conv", "llmfail", "logsonly", "ok", "toolfail")
#: Dollars, according to its records.
COST = {
    "approve": "0.0539136",
    "conv": "0.110571",
    "llmfail": "0.045042",
    "logsonly": "0.0556164",
    "ok": "0.0556164",
    "toolfail": "0.0557754",
}
PROMPTS = {"conv": 3}
SIGNALS = ("traces", "logs", "metrics")
MIXES = [mix for size in (1, 2, 3) for mix in combinations(SIGNALS, size)]

every_mix = pytest.mark.parametrize("mix", MIXES, ids="+".join)
every_run = pytest.mark.parametrize("run", RUNS)


@cache
def recorded(run: str, mix: tuple[str, ...]) -> tuple[Observation, ...]:
    """Return what arrived by these signals."""
    files = sorted(f for signal in mix for f in (COMMITTED / "claude-code" / run).glob(f"*-{signal}.pb"))
    return tuple(o for file in files for decoded in read_recording(file) for o in decoded.observations)


def made(batches: list[list[Observation]]) -> tuple[list[Task], dict[str, Any]]:
    """Return the tasks made of batches, and all their public fields but the verdicts."""
    store = MemoryStore(FoldRules(stall_rules=NO_STALL))
    for batch in batches:
        assert not store.record_now(batch).dropped
    store.elapse_now(datetime.now(UTC) + timedelta(days=1))
    tasks = store.tasks_now(TaskQuery(limit=1000))
    whole = report(
        sorted(tasks, key=lambda t: t.task_id),
        [c for c in store.checkpoints_now(limit=10**6) if c.kind in REPORTED_KINDS],
        {},
    )
    whole["checkpoints"].sort(key=lambda c: c["id"])
    return tasks, whole


@every_run
@every_mix
def test_each_signal_gives_the_session(run: str, mix: tuple[str, ...]) -> None:
    """Each signal alone gives the served tokens and cost, once; status and prompts where the signal carries
    them.
    """
    if "traces" in mix and run == "logsonly":
        mix = tuple(signal for signal in mix if signal != "traces") or ("logs",)
    [task], _ = made([list(recorded(run, mix))])
    served = totals(COMMITTED / "claude-code" / run)
    assert (task.input_tokens, task.output_tokens) == (served["input"], served["output"])
    assert task.cache_read_tokens == served["cached_read"]
    if mix != ("traces",):  # no span has the cost
        assert task.cost_usd == Decimal(COST[run])
    assert (task.name, task.service) == ("Claude Code", "claude-code")
    if mix == ("metrics",):
        assert (task.status, task.is_inferred, task.llm_calls, task.steps) == ("complete", True, 0, ())
        return
    assert task.status == ("error" if run == "llmfail" else "complete")
    assert task.llm_calls == served["llm_calls"]
    assert task.tool_calls == served["tool_calls_requested"]
    assert task.tool_errors == (2 if run == "toolfail" else 0)
    assert task.error_count == {"llmfail": 3, "toolfail": 2}.get(run, 0)
    assert (task.runs, len(task.steps)) == (PROMPTS.get(run, 1), PROMPTS.get(run, 1))
    asked = [(a.decision, a.by) for a in task.approvals]
    assert asked == ([("accept", "a person")] if run == "approve" else [])


@pytest.mark.slow
@every_run
@every_mix
def test_any_order_and_repetition_comes_to_the_same(run: str, mix: tuple[str, ...]) -> None:
    """One at a time, shuffled, repeated, in batches or at once: the same tasks and the same reported
    checkpoints.
    """
    observations = recorded(run, mix)
    if not observations:
        pytest.skip("nothing was recorded of it")
    expected = made([list(observations)])[1]
    for seed in range(3):
        random = Random(f"{run}{mix}{seed}")
        mixed = [*observations, *random.sample(observations, len(observations) // 3)]
        random.shuffle(mixed)
        size = (1, 1, 7)[seed]
        assert made([mixed[i : i + size] for i in range(0, len(mixed), size)])[1] == expected


@every_run
def test_nothing_is_reported_twice(run: str) -> None:
    """All signals together report what the spans report; records alone lack no start, end or error."""
    by: dict[tuple[str, ...], list[str]] = {}
    for mix in (("logs",), ("traces", "logs", "metrics")):
        checkpoints = made([list(recorded(run, mix))])[1]["checkpoints"]
        by[mix] = sorted(c["kind"] for c in checkpoints)
    assert by["logs",] == by["traces", "logs", "metrics"]


@pytest.mark.proves("content")
def test_content_is_not_kept() -> None:
    """Prompts, answers and tool arguments of the recording are in no row."""
    store = MemoryStore(FoldRules(stall_rules=NO_STALL))
    store.record_now(list(recorded("ok", SIGNALS)))
    kept = repr(store.events_now(limit=10**6)) if hasattr(store, "events_now") else ""
    shown = repr(made([list(recorded("ok", SIGNALS))])[1])
    assert any("hello.txt" in repr(o.attributes) for o in recorded("ok", SIGNALS) if o.part is Part.LOG)
    assert "hello.txt" not in shown
    assert "hello.txt" not in kept


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_the_end_of_a_prompt_says_what_the_prompt_used(size: int) -> None:
    """Each of three prompts ends with figures of its own, which add up to those of the session."""
    store = MemoryStore(FoldRules(stall_rules=NO_STALL))
    observations = recorded("conv", SIGNALS)
    for i in range(0, len(observations), size):
        store.record_now(list(observations[i : i + size]))
    [task] = store.tasks_now(TaskQuery(limit=10))
    ends = sorted((c for c in store.checkpoints_now(limit=100) if c.kind is Kind.END), key=lambda c: c.at)
    said = [c.text.partition(" · ")[2] for c in ends]
    assert said == ["49.8k in · 66 out · $0.06", "55.7k in · 66 out · $0.02", "61.6k in · 66 out · $0.03"]
    assert task.input_tokens == totals(COMMITTED / "claude-code" / "conv")["input"]
    assert (task.output_tokens, task.cost_usd) == (3 * 66, Decimal(COST["conv"]))
