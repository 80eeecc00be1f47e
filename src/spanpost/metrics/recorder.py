"""Metrics of one process: counts what was newly recorded and what was delivered.

Counters count what this process recorded. Duplicates do not count again, because the store reports them as duplicates.
Label values come from agents and are limited by `series`. A count that concerns one task carries its trace as an
exemplar, and the checkpoint where there is one.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

import msgspec
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from spanpost.http.guard import Guard
from spanpost.metrics.fleet import FleetGauges
from spanpost.metrics.labels import (
    BYPASSED,
    CALLED,
    CALLS,
    COMMITS,
    COMPONENTS,
    DELIVERIES,
    DROPPED,
    OTHER,
    RUNS,
    WARNINGS,
    version,
)
from spanpost.metrics.series import MetricFamily, Registry
from spanpost.metrics.serving import MetricsServer, shown
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Delivery, Receipt
from spanpost.model.fleet import Fleet
from spanpost.model.outcomes import Arrived, GiveUp, NotArrived, Outcome, RetryAt
from spanpost.model.readings import Role
from spanpost.model.recorded import FinalizedUsage, Limited, Recorded, Timed, Waited
from spanpost.model.tasks import Task
from spanpost.routing.rate_limiting import OpenCircuit
from spanpost.semconv import ERROR, FINAL_STATUSES, STATUSES

#: Open labels of a task's metrics, and of a model call's.
WHO = ("agent", "task_type", "environment", "tenant")
CALL = ("agent", "model", "environment", "tenant")
#: Items of one kind that are counted in one step.
_AT_ONCE = 200


class Listens(Protocol):
    """**Protocol:** also receives what was recorded; `bridge.Bridge` is one."""

    def recorded(self, recorded: Recorded, tasks: Mapping[UUID, Task]) -> None: ...


class Metrics:
    """The metrics of one process, in a registry of its own.

    Give it to the dispatcher as `watch`, and subscribe `counting` to what is recorded. Safe to call from any thread.
    Each label has at most `max_values` values, and each metric at most `max_series` combinations of them. A combination that
    was not used for `expire_after` is removed.
    """

    def __init__(
        self,
        *,
        max_values: int = 200,
        max_series: int = 2_000,
        expire_after: timedelta = timedelta(hours=48),
        clock: Callable[[], float] = time.monotonic,
        bridge: Listens | None = None,
    ) -> None:
        self.registry = registry = Registry(
            max_values=max_values, max_series=max_series, expire=expire_after.total_seconds(), clock=clock
        )
        self._lock = registry.counting
        self._bridge = bridge
        self._server: MetricsServer | None = None
        #: Combinations whose series were set to 0.
        self._created: dict[tuple[Any, ...], None] = {}

        def counter(name: str, help_text: str, *labels: str) -> Counter:
            return Counter(f"spanpost_{name}", help_text, labels, registry=registry)

        def of_agents(name: str, help_text: str, *labels: str) -> MetricFamily[Counter]:
            return registry.family(Counter, f"spanpost_{name}", help_text, labels)

        def durations(name: str, help_text: str, buckets: Iterable[float], *labels: str) -> MetricFamily[Histogram]:
            return registry.family(Histogram, f"spanpost_{name}_seconds", help_text, labels, buckets=tuple(buckets))

        # tasks
        self.tasks_started = of_agents("tasks_started", "Tasks that came into being.", *WHO)
        self.tasks_ended = of_agents(
            "tasks_ended", "Runs of tasks that ended, each once, by the status that it ended in first.", "status", *WHO
        )
        self.task_duration = durations("task_duration", "Time from a task's start to its end.", RUNS, "agent", "status")
        self.step_duration = durations("step_duration", "Time that steps of agents took.", CALLS, "agent")
        self.tool_call_duration = durations(
            "tool_call_duration", "Time that tool calls took.", CALLS, "agent", "outcome"
        )
        self.model_call_duration = durations(
            "model_call_duration", "Time that model calls took, each call once.", CALLS, "agent", "model", "outcome"
        )
        self.approval_wait = durations(
            "approval_wait", "Time from a question to a person to its answer.", RUNS, "agent"
        )
        self.errors = of_agents(
            "errors",
            "Failures by their type: of a part of a task, or of the task.",
            "scope",
            "error_type",
            "agent",
            "environment",
            "tenant",
        )
        self.provider_limits = of_agents(
            "provider_limits",
            "Model calls that providers held back, each once: by a limit of their rate, or a quota that is spent.",
            "limit",
            *CALL,
        )
        self.warnings = of_agents(
            "warnings", "Warnings about tasks, by kind.", "kind", "agent", "environment", "tenant"
        )
        self.checkpoints = counter("checkpoints", "Checkpoints told, by kind.", "kind")
        # use
        self.tokens = of_agents("tokens", "Tokens of model calls, each call once. Input includes cache.", "kind", *CALL)
        self.cost = of_agents("cost_usd", "Cost of model calls in US dollars.", *CALL)
        self.unpriced = of_agents(
            "unpriced_calls", "Model calls of which no cost is known; the cost is that of the others.", *CALL
        )
        self.model_calls = of_agents("model_calls", "Model calls that settled.", *CALL)
        self.corrections = counter(
            "usage_corrections", "Times that figures added to counters proved too high; the tables are right."
        )
        # what comes in
        self.events = counter("events", "Audit rows that were new, by part of a span.", "part")
        self.duplicates = counter("duplicate_observations", "Observations that were recorded before.")
        self.ignored = counter("ignored_spans", "Spans that are not an agent's.")
        self.requests = counter(
            "requests", "Requests at the OTLP receivers, by status of the answer.", "endpoint", "signal", "status"
        )
        self.metric_points = counter("metric_points", "Data points of OTLP metrics that were accepted and not read.")
        self.in_flight = Gauge(
            "spanpost_in_flight_bytes",
            "Bytes of requests that the gateway holds.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.queued = Gauge(
            "spanpost_queue_length",
            "Spans and events that an agent's process told and that are not recorded yet.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.reloads = counter("reloads", "Times that settings were read again, by what came of it.", "outcome")
        self.worker_restarts = counter(
            "worker_restarts", "Workers of the gateway that ended unasked and were started again."
        )
        self.redactions = counter("redactions", "Secrets taken out of what was sent, those of repeats too.", "kind")
        self.dropped = counter(
            "dropped", "Observations or deliveries dropped, by component and reason.", "component", "reason"
        )
        self.spool_bypassed = counter(
            "spool_bypassed", "Spans and events that went past the spool, to memory alone.", "reason"
        )
        self.spool_bytes = Gauge(
            "spanpost_spool_bytes", "Size of the spool's directory.", registry=registry, multiprocess_mode="max"
        )
        self.commit_duration = Histogram(
            "spanpost_commit_duration_seconds",
            "Time to record a batch, until it was committed.",
            buckets=COMMITS,
            registry=registry,
        )
        self.commit_failures = counter("commit_failures", "Batches that could not be recorded at the first try.")
        self.store_up = Gauge(
            "spanpost_store_up",
            "1 while the store answers this process, 0 while it does not.",
            registry=registry,
            multiprocess_mode="min",
        )
        # what goes out
        self.deliveries = counter("deliveries", "Attempts to deliver, by outcome.", "sink", "outcome")
        self.delivery_age = Histogram(
            "spanpost_deliveries_age_seconds",
            "Age of deliveries when they were delivered.",
            ["sink"],
            buckets=DELIVERIES,
            registry=registry,
        )
        self.coalesced = counter(
            "deliveries_coalesced", "States that gave way to newer ones before they were sent: edits saved.", "sink"
        )
        self.diverted = counter(
            "deliveries_diverted",
            "Deliveries that a fallback took in place of their address, by reason.",
            "sink",
            "reason",
        )
        self.retried = counter(
            "deliveries_retried", "Attempts after which a delivery waits for another one, by reason.", "sink", "reason"
        )
        self.breaker_opened = counter(
            "circuit_breaker_opened",
            "Times that calls to a sink were stopped for a while, by reason.",
            "sink",
            "reason",
        )
        self.sink_calls = counter(
            "sink_calls", "Calls that a sink made at its far side, by method and outcome.", "sink", "method", "outcome"
        )
        # what monitors say
        self.alerts = counter("alerts", "Alerts that came home, by source and by what they were.", "source", "outcome")
        # what people do
        self.interventions = counter(
            "interventions",
            "What people asked of tasks (`view`: to see more), by what became of it; `repeat`: the same act, heard again.",
            "verb",
            "result",
            "source",
        )
        self.interactions_requests = counter(
            "interactions_requests",
            "Requests of people's clients (Slack, API, webhooks), by endpoint and status.",
            "endpoint",
            "status",
        )
        self._fleet = FleetGauges(registry)
        build = Gauge(
            "spanpost_build_info",
            "Always 1; the version is a label.",
            ["version"],
            registry=registry,
            multiprocess_mode="max",
        )
        build.labels(version()).set(1)
        self._totals: dict[tuple[str, str], int] = {}
        # Series that exist from the first moment have a rate from the first moment.
        for kind in Kind:
            self.checkpoints.labels(str(kind))

    # --- what is recorded -----------------------------------------------------------------------------------------------

    def recorded(self, recorded: Recorded) -> None:
        """Count a batch."""
        for _ in self.counting(recorded):
            pass

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
                self.events.labels(part).inc(n)
            self.duplicates.inc(recorded.duplicates)
            self.ignored.inc(recorded.ignored)
            self.corrections.inc(recorded.corrections)
            for reason, n in recorded.dropped.items():
                self._count_dropped("fold", reason, n)
            for kind, n in recorded.redacted.items():
                self.redactions.labels(kind).inc(n)
            for sink, n in recorded.coalesced.items():
                self.coalesced.labels(sink).inc(n)
        kinds: tuple[tuple[Sequence[Any], Callable[[Sequence[Any]], None]], ...] = (
            (recorded.tasks, self._create_all_series),
            (recorded.started, lambda uids: self._begin([(tasks.get(uid), starts.get(uid)) for uid in uids])),
            (recorded.checkpoints, lambda checkpoints: self._count_checkpoints(checkpoints, tasks)),
            (recorded.ended, lambda uids: self._end_all([(tasks.get(uid), ends.get(uid)) for uid in uids])),
            (recorded.timed, lambda timed: self._time(timed, tasks)),
            (recorded.waited, lambda waited: self._wait(waited, tasks)),
            (recorded.finalized, self._use_all),
            (recorded.limited, self._limit),
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
            self.tasks_started.of(*_who(task)).inc(1, _exemplar(task, checkpoint_id))

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
            self.provider_limits.of(held.kind, held.agent_name, held.model, held.environment, held.tenant).inc()

    def _create_series(self, task: Task) -> None:
        """Create the series of a task at 0, so that their first increase is visible."""
        who, call = _who(task), (task.agent_name, task.model, task.environment, task.tenant)
        if (who, call) in self._created:
            return
        if len(self._created) > 10_000:
            self._created.clear()
        self._created[who, call] = None
        for status in FINAL_STATUSES:
            self.tasks_ended.of(status, *who)
            self.task_duration.of(task.agent_name, status)
        for kind in WARNINGS:
            self.warnings.of(kind, task.agent_name, task.environment, task.tenant)
        if task.model:
            for kind_of_token in ("input", "output"):
                self.tokens.of(kind_of_token, *call)
            self.model_calls.of(*call)
            self.cost.of(*call)

    def _count_checkpoint(self, checkpoint: Checkpoint, task: Task | None) -> None:
        self.checkpoints.labels(str(checkpoint.kind)).inc()
        agent, environment = (task.agent_name, task.environment) if task is not None else (None, None)
        exemplar = _trace(checkpoint.trace_id, checkpoint.id)
        if checkpoint.kind is Kind.ERROR:
            self.errors.of("part", checkpoint.ref, agent, environment, checkpoint.tenant).inc(1, exemplar)
        elif checkpoint.kind in WARNINGS:
            self.warnings.of(checkpoint.kind, agent, environment, checkpoint.tenant).inc(1, exemplar)

    def _end(self, task: Task | None, checkpoint_id: UUID | None) -> None:
        status = OTHER if task is None else task.status if task.status in STATUSES else OTHER
        exemplar = _exemplar(task, checkpoint_id)
        self.tasks_ended.of(status, *_who(task)).inc(1, exemplar)
        if task is None:
            return
        if task.status == ERROR:
            kind = task.error.type if task.error is not None else ""
            self.errors.of("task", kind, task.agent_name, task.environment, task.tenant).inc(1, exemplar)
        if task.started_at is not None and task.ended_at is not None:
            seconds = max((task.ended_at - task.started_at).total_seconds(), 0.0)
            self.task_duration.of(task.agent_name, status).observe(seconds, exemplar)

    def _time(self, timed: Sequence[Timed], tasks: Mapping[UUID, Task]) -> None:
        children: dict[tuple[Any, ...], Histogram] = {}
        lasted: dict[Histogram, list[tuple[float, bytes]]] = {}
        for span in timed:
            key = (span.task_uid, span.role, span.model, span.has_failed)
            child = children.get(key)
            if child is None:
                task = tasks.get(span.task_uid)
                agent, outcome = (task.agent_name if task is not None else None), "error" if span.has_failed else "ok"
                match span.role:
                    case Role.LLM:
                        child = self.model_call_duration.of(agent, span.model, outcome)
                    case Role.TOOL:
                        child = self.tool_call_duration.of(agent, outcome)
                    case _:
                        child = self.step_duration.of(agent)
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
            task = tasks.get(answer.task_uid)
            exemplar = _trace(answer.trace_id, answer.checkpoint_id)
            self.approval_wait.of(task.agent_name if task is not None else None).observe(answer.seconds, exemplar)

    def _use(self, call: FinalizedUsage) -> None:
        labels = call.agent_name, call.model, call.environment, call.tenant
        self.model_calls.of(*labels).inc(call.calls)
        if call.unpriced:
            self.unpriced.of(*labels).inc(call.unpriced)
        usage = call.usage
        for kind, n_tokens in (
            ("input", usage.input),
            ("output", usage.output),
            ("cache_read", usage.cache_read),
            ("cache_write", usage.cache_write),
            ("reasoning", usage.reasoning),
        ):
            if n_tokens is not None and n_tokens > 0:
                self.tokens.of(kind, *labels).inc(n_tokens)
        if usage.cost_usd is not None and usage.cost_usd.is_finite() and usage.cost_usd > 0:
            self.cost.of(*labels).inc(float(usage.cost_usd))

    def committed(self, seconds: float) -> None:
        """Count a committed batch and its duration."""
        self.commit_duration.observe(seconds)
        self.store_up.set(1)

    def not_committed(self) -> None:
        """Count a batch that could not be recorded."""
        self.commit_failures.inc()
        self.store_up.set(0)

    # --- deliveries -----------------------------------------------------------------------------------------------------

    def delivered(self, delivery: Delivery, outcome: Outcome, age: timedelta) -> None:
        """Count the outcome of an attempt."""
        with self._lock:
            sink = delivery.sink
            match outcome:
                case Receipt(skipped=""):
                    self.deliveries.labels(sink, "delivered").inc()
                    if outcome.diverted:
                        self.diverted.labels(sink, outcome.diverted).inc()
                    self.delivery_age.labels(sink).observe(max(age.total_seconds(), 0.0))
                case Receipt():
                    self.deliveries.labels(sink, "skipped").inc()
                case RetryAt():
                    self.deliveries.labels(sink, "unknown" if outcome.reconcile else "retried").inc()
                    self.retried.labels(sink, _why(outcome)).inc()
                case Arrived():
                    self.deliveries.labels(sink, "found").inc()
                case NotArrived():
                    self.deliveries.labels(sink, "absent").inc()
                case GiveUp():
                    self.deliveries.labels(sink, "dead").inc()
                    self._count_dropped("sinks", "dead", 1)

    def closed(self, sink: str, closed: OpenCircuit) -> None:
        """Count a circuit that opened."""
        with self._lock:
            self.breaker_opened.labels(sink, closed.why).inc()

    def called(self, sink: str, method: str, outcome: str) -> None:
        """Count a call of a sink to its service. An outcome outside the closed list is ``other``."""
        self.sink_calls.labels(sink, method, outcome if outcome in CALLED else OTHER).inc()

    def intervened(self, verb: str, result: str, source: str) -> None:
        """Count an intervention and its result."""
        self.interventions.labels(verb, result, source).inc()

    def alerted(self, source: str, outcome: str, n: int = 1) -> None:
        """Count alerts. `source` and `outcome` (firing, resolved, repeat, unreadable) are closed lists."""
        self.alerts.labels(source, outcome).inc(n)

    def knocked(self, endpoint: str, answer: str) -> None:
        """Count a request for an interaction. Both labels are closed lists."""
        self.interactions_requests.labels(endpoint, answer).inc()

    # --- receivers ------------------------------------------------------------------------------------------------------

    def requested(self, endpoint: str, signal: str, answer: str) -> None:
        """Count a request to a receiver (`http`, `grpc`) and its answer."""
        self.requests.labels(endpoint, signal, answer).inc()

    def passed_points(self, n: int) -> None:
        """Count data points that were accepted and not read."""
        self.metric_points.inc(n)

    def page(self, accept: str = "") -> tuple[str, bytes]:
        """Return the content type and the page of all metrics, in the format that the scraper accepts."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(shown(self.registry))

    def count_dropped(self, component: str, reason: str, n: int = 1) -> None:
        """Count dropped items. A reason outside the closed list is ``other``."""
        with self._lock:
            self._count_dropped(component, reason, n)

    def count_dropped_so_far(self, component: str, totals: Mapping[str, int]) -> None:
        """Count what was dropped since the last call; `totals` are since the start, by reason."""
        with self._lock:
            for reason, n in totals.items():
                more = n - self._totals.get((component, reason), 0)
                if more > 0:
                    self._totals[component, reason] = n
                    self._count_dropped(component, reason, more)

    def spooled(self, bypassed: Mapping[str, int], size: int) -> None:
        """Count what bypassed the spool (totals since the start, by reason), and show the size of its directory in bytes."""
        with self._lock:
            self.spool_bytes.set(size)
            for reason, n in bypassed.items():
                more = n - self._totals.get(("bypassed", reason), 0)
                if more > 0:
                    self._totals["bypassed", reason] = n
                    self.spool_bypassed.labels(reason if reason in BYPASSED else OTHER).inc(more)

    def _count_dropped(self, component: str, reason: str, n: int) -> None:
        self.dropped.labels(
            component if component in COMPONENTS else OTHER, reason if reason in DROPPED else OTHER
        ).inc(n)

    def fleet(self, fleet: Fleet | None) -> None:
        """Show what is open in the database. None: clear the gauges, because another process shows them."""
        with self._lock:
            self._fleet.show(fleet)

    # --- serving ------------------------------------------------------------------------------------------------
    def serve(
        self, address: str = "127.0.0.1", port: int = 9464, *, guard: Guard | None = None, tokens: Sequence[bytes] = ()
    ) -> int:
        """Serve ``/metrics`` from a thread; return the port, which the system chooses if `port` is 0.

        `tokens` are hashes (SHA-256); a scraper must send one of the tokens. Empty: no token is required. 9464 is the port that
        OpenTelemetry gives to its Prometheus exporter. Raises `ConfigError` when the port is not available.
        """
        if self._server is not None:
            return self._server.port
        self._server = MetricsServer(self.registry, address, port, guard, tokens)
        return self._server.port

    def close(self) -> None:
        """Stop serving. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.close()


def _why(outcome: RetryAt) -> str:
    """Return why a delivery waits again, from a closed list. The sinks' own reasons are in `deliveries.reason`."""
    if outcome.is_unsent:
        return "late"
    if outcome.has_looked:
        return "not_seen"
    if outcome.reconcile:
        return "unknown"
    if outcome.is_refusal:
        return "refused"
    return "failed" if outcome.is_failure else "throttled"


def _who(task: Task | None) -> tuple[str | None, ...]:
    return (None, None, None, None) if task is None else (task.agent_name, task.type, task.environment, task.tenant)


def _exemplar(task: Task | None, checkpoint_id: UUID | None) -> dict[str, str] | None:
    return _trace(task.trace_id, checkpoint_id) if task is not None else None


def _trace(trace_id: bytes, checkpoint_id: UUID | None = None) -> dict[str, str] | None:
    """Return the labels of an exemplar: 89 characters with both; OpenMetrics allows 128."""
    labels = {"trace_id": trace_id.hex()} if len(trace_id) == 16 else {}
    if checkpoint_id is not None:
        labels["checkpoint_id"] = str(checkpoint_id)
    return labels or None
