"""Counts the tasks, checkpoints and model calls of a batch. The only place that counts tasks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from prometheus_client import Histogram

from spanpost.metrics.bridge import Bridge
from spanpost.metrics.families import MetricFamilies
from spanpost.metrics.labels import CALLS, OTHER, WARNINGS
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.readings import Role
from spanpost.model.recorded import BudgetAct, Evaluated, FinalizedUsage, Limited, Recorded, Timed, Waited
from spanpost.model.tasks import Task
from spanpost.semconv import ERROR, FINAL_STATUSES, STATUSES

#: Items of one kind that are counted in one step.
_AT_ONCE: Final = 200
#: Combinations of labels that are remembered as created.
_MOST_CREATED: Final = 10_000


class RecordedCounter:
    """Counts recorded batches into the metrics of one process, then hands them to `bridge`."""

    def __init__(self, metrics: MetricFamilies, bridge: Bridge | None) -> None:
        self._metrics = metrics
        self._lock = metrics.registry.counting
        self._bridge = bridge
        #: Combinations whose series were set to 0.
        self._created: dict[tuple[Any, ...], None] = {}

    def counting(self, recorded: Recorded) -> Iterator[None]:
        """Count a batch in steps, one per iteration.

        Counting thousands of tasks at once would block the event loop for too long.
        """
        tasks = {task.uid: task for task in recorded.tasks}
        starts, ends = (
            {c.task_uid: c.id for c in recorded.checkpoints if c.kind is kind} for kind in (Kind.START, Kind.END)
        )
        if alerts := {uid for uid, task in tasks.items() if task.is_alert}:
            begun, over = ([uid for uid in uids if uid not in alerts] for uids in (recorded.started, recorded.ended))
            of_agents = [task for task in recorded.tasks if task.uid not in alerts]
            recorded = msgspec.structs.replace(recorded, tasks=of_agents, started=begun, ended=over)
        with self._lock:
            parts = recorded.parts or ({OTHER: recorded.events} if recorded.events else {})
            for part, n in parts.items():
                self._metrics.events.labels(part).inc(n)
            self._metrics.duplicates.inc(recorded.duplicates)
            self._metrics.ignored.inc(recorded.ignored)
            self._metrics.corrections.inc(recorded.corrections)
            for reason, n in recorded.dropped.items():
                self._metrics.add_dropped("fold", reason, n)
            for kind, n in recorded.redacted.items():
                self._metrics.redactions.labels(kind).inc(n)
            for sink, n in recorded.coalesced.items():
                self._metrics.coalesced.labels(sink).inc(n)
        kinds: tuple[tuple[Sequence[Any], Callable[[Sequence[Any]], None]], ...] = (
            (recorded.tasks, self._create_all_series),
            (recorded.started, lambda uids: self._begin([(tasks.get(uid), starts.get(uid)) for uid in uids])),
            (recorded.checkpoints, lambda checkpoints: self._count_checkpoints(checkpoints, tasks)),
            (recorded.ended, lambda uids: self._end_all([(tasks.get(uid), ends.get(uid)) for uid in uids])),
            (recorded.timed, lambda timed: self._time(timed, tasks)),
            (recorded.waited, lambda waited: self._wait(waited, tasks)),
            (recorded.finalized, self._use_all),
            (recorded.limited, self._limit),
            (recorded.budget_acts, self._act),
            (recorded.evaluated, lambda evaluated: self._evaluate(evaluated, tasks)),
        )
        for each, count in kinds:
            for start in range(0, len(each), _AT_ONCE):
                with self._lock:
                    count(each[start : start + _AT_ONCE])
                yield
        if self._bridge is not None:
            self._bridge.recorded(recorded, tasks)

    def _create_all_series(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self._create_series(task)

    def _begin(self, tasks: Sequence[tuple[Task | None, UUID | None]]) -> None:
        for task, checkpoint_id in tasks:
            self._metrics.tasks_started.of(*_who(task)).inc(1, _exemplar(task, checkpoint_id))

    def _count_checkpoints(self, checkpoints: Sequence[Checkpoint], tasks: Mapping[UUID, Task]) -> None:
        for checkpoint in checkpoints:
            self._count_checkpoint(checkpoint, tasks.get(checkpoint.task_uid))

    def _end_all(self, tasks: Sequence[tuple[Task | None, UUID | None]]) -> None:
        for task, checkpoint_id in tasks:
            self._end(task, checkpoint_id)

    def _use_all(self, calls: Sequence[FinalizedUsage]) -> None:
        for call in calls:
            self._use(call)

    def _limit(self, calls: Sequence[Limited]) -> None:
        for held in calls:
            self._metrics.provider_limits.of(
                held.kind, held.agent_name, held.model, held.environment, held.tenant
            ).inc()

    def _act(self, acts: Sequence[BudgetAct]) -> None:
        for one in acts:
            self._metrics.budget_acts.of(one.budget, one.act, one.tenant).inc()

    def _evaluate(self, evaluated: Sequence[Evaluated], tasks: Mapping[UUID, Task]) -> None:
        for one in evaluated:
            task, evaluation = tasks.get(one.task_uid), one.evaluation
            agent, environment, _ = _place(task)
            source = "person" if evaluation.is_person else "telemetry"
            labels = source, evaluation.name, agent, environment, one.tenant
            self._metrics.evaluations.of(*labels).inc()
            if evaluation.score is not None:
                self._metrics.evaluation_score.of(*labels).observe(evaluation.score, _exemplar(task, None))

    def _create_series(self, task: Task) -> None:
        """Create the series of a task at 0, so that their first increase is visible."""
        who, call = _who(task), (task.agent_name, task.model, task.environment, task.tenant)
        if (who, call) in self._created:
            return
        if len(self._created) > _MOST_CREATED:
            self._created.clear()
        self._created[who, call] = None
        for status in FINAL_STATUSES:
            self._metrics.tasks_ended.of(status, *who)
            self._metrics.task_duration.of(status, *_place(task))
        for kind in WARNINGS:
            self._metrics.warnings.of(kind, task.agent_name, task.environment, task.tenant)
        if task.model:
            for kind_of_token in ("input", "output"):
                self._metrics.tokens.of(kind_of_token, *call)
            self._metrics.model_calls.of(*call)
            self._metrics.cost.of(*call)

    def _count_checkpoint(self, checkpoint: Checkpoint, task: Task | None) -> None:
        self._metrics.checkpoints.labels(str(checkpoint.kind)).inc()
        agent, environment, _ = _place(task)
        exemplar = _trace(checkpoint.trace_id, checkpoint.id)
        if checkpoint.kind is Kind.ERROR:
            self._metrics.errors.of("part", checkpoint.ref, agent, environment, checkpoint.tenant).inc(1, exemplar)
        elif checkpoint.kind in WARNINGS:
            self._metrics.warnings.of(checkpoint.kind, agent, environment, checkpoint.tenant).inc(1, exemplar)

    def _end(self, task: Task | None, checkpoint_id: UUID | None) -> None:
        status = OTHER if task is None else task.status if task.status in STATUSES else OTHER
        exemplar = _exemplar(task, checkpoint_id)
        self._metrics.tasks_ended.of(status, *_who(task)).inc(1, exemplar)
        if task is None:
            return
        if task.status == ERROR:
            kind = task.error.type if task.error is not None else ""
            self._metrics.errors.of("task", kind, task.agent_name, task.environment, task.tenant).inc(1, exemplar)
        if task.started_at is not None and task.ended_at is not None:
            seconds = max((task.ended_at - task.started_at).total_seconds(), 0.0)
            self._metrics.task_duration.of(status, *_place(task)).observe(seconds, exemplar)

    def _time(self, timed: Sequence[Timed], tasks: Mapping[UUID, Task]) -> None:
        children: dict[tuple[Any, ...], Histogram] = {}
        lasted: dict[Histogram, list[tuple[float, bytes]]] = {}
        for span in timed:
            key = (span.task_uid, span.role, span.model, span.has_failed)
            child = children.get(key)
            if child is None:
                task = tasks.get(span.task_uid)
                agent, environment, tenant = _place(task)
                outcome = "error" if span.has_failed else "ok"
                match span.role:
                    case Role.LLM:
                        child = self._metrics.model_call_duration.of(outcome, agent, span.model, environment, tenant)
                    case Role.TOOL:
                        child = self._metrics.tool_call_duration.of(outcome, agent, environment, tenant)
                    case _:
                        child = self._metrics.step_duration.of(agent, environment, tenant)
                children[key] = child
                lasted.setdefault(child, [])
            lasted[child].append((span.seconds, span.trace_id))
        for child, spans in lasted.items():
            # A bucket keeps only the newest exemplar: make no others.
            last = {bisect_left(CALLS, seconds): i for i, (seconds, _) in enumerate(spans)}
            newest = set(last.values())
            for i, (seconds, trace_id) in enumerate(spans):
                child.observe(seconds, _trace(trace_id) if i in newest else None)

    def _wait(self, waited: Sequence[Waited], tasks: Mapping[UUID, Task]) -> None:
        for answer in waited:
            exemplar = _trace(answer.trace_id, answer.checkpoint_id)
            place = _place(tasks.get(answer.task_uid))
            self._metrics.approval_wait.of(*place).observe(answer.seconds, exemplar)

    def _use(self, call: FinalizedUsage) -> None:
        labels = call.agent_name, call.model, call.environment, call.tenant
        self._metrics.model_calls.of(*labels).inc(call.calls)
        if call.unpriced:
            self._metrics.unpriced.of(*labels).inc(call.unpriced)
        usage = call.usage
        for kind, n_tokens in (
            ("input", usage.input),
            ("output", usage.output),
            ("cache_read", usage.cache_read),
            ("cache_write", usage.cache_write),
            ("reasoning", usage.reasoning),
        ):
            if n_tokens is not None and n_tokens > 0:
                self._metrics.tokens.of(kind, *labels).inc(n_tokens)
        if usage.cost_usd is not None and usage.cost_usd.is_finite() and usage.cost_usd > 0:
            self._metrics.cost.of(*labels).inc(float(usage.cost_usd))


def _who(task: Task | None) -> tuple[str | None, ...]:
    return (None, None, None, None) if task is None else (task.agent_name, task.type, task.environment, task.tenant)


def _place(task: Task | None) -> tuple[str | None, ...]:
    return (None, None, None) if task is None else (task.agent_name, task.environment, task.tenant)


def _exemplar(task: Task | None, checkpoint_id: UUID | None) -> dict[str, str] | None:
    return _trace(task.trace_id, checkpoint_id) if task is not None else None


def _trace(trace_id: bytes, checkpoint_id: UUID | None = None) -> dict[str, str] | None:
    """Return the labels of an exemplar: 89 characters with both; OpenMetrics allows 128."""
    labels = {"trace_id": trace_id.hex()} if len(trace_id) == 16 else {}
    if checkpoint_id is not None:
        labels["checkpoint_id"] = str(checkpoint_id)
    return labels or None
