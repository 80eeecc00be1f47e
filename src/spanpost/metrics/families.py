"""The metrics of one process, by name. `counting` and `recorder` count into them."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from spanpost.metrics.fleet import FleetGauges
from spanpost.metrics.labels import CALLS, COMMITS, COMPONENTS, DELIVERIES, DROPPED, OTHER, RUNS, SCORES, version
from spanpost.metrics.series import MetricFamily, Registry
from spanpost.metrics.tenants import TenantGauges
from spanpost.model.checkpoints import Kind

#: Open labels of a task's metrics, and of a model call's.
WHO = ("agent", "task_type", "environment", "tenant")
CALL = ("agent", "model", "environment", "tenant")
#: Open labels of a duration that is not a model call's.
PLACE = ("agent", "environment", "tenant")
#: Labels of an evaluation: `source` is person or telemetry, the others are open.
EVALUATION = ("source", "evaluation", *PLACE)


class MetricFamilies:
    """Every metric of one process, in `registry`."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

        def counter(name: str, help_text: str, *labels: str) -> Counter:
            return Counter(f"spanpost_{name}", help_text, labels, registry=registry)

        def of_agents(name: str, help_text: str, *labels: str) -> MetricFamily[Counter]:
            return registry.family(Counter, f"spanpost_{name}", help_text, labels)

        def durations(name: str, help_text: str, buckets: Iterable[float], *labels: str) -> MetricFamily[Histogram]:
            return registry.family(Histogram, f"spanpost_{name}_seconds", help_text, labels, buckets=tuple(buckets))

        # tasks
        self.tasks_started = of_agents("tasks_started", "Tasks that started.", *WHO)
        self.tasks_ended = of_agents(
            "tasks_ended", "Runs of tasks that ended, each once, by their first final status.", "status", *WHO
        )
        self.task_duration = durations("task_duration", "Time from a task's start to its end.", RUNS, "status", *PLACE)
        self.step_duration = durations("step_duration", "Duration of steps.", CALLS, *PLACE)
        self.tool_call_duration = durations("tool_call_duration", "Duration of tool calls.", CALLS, "outcome", *PLACE)
        self.model_call_duration = durations(
            "model_call_duration", "Duration of model calls, each call once.", CALLS, "outcome", *CALL
        )
        self.approval_wait = durations("approval_wait", "Time from a question to its answer.", RUNS, *PLACE)
        self.errors = of_agents(
            "errors",
            "Failures by type, of a part of a task or of the task (`scope`).",
            "scope",
            "error_type",
            "agent",
            "environment",
            "tenant",
        )
        self.evaluations = of_agents(
            "evaluations", "Evaluations of tasks, each once: of people (`person`) or of evaluators.", *EVALUATION
        )
        self.evaluation_score = registry.family(
            Histogram,
            "spanpost_evaluation_score",
            "Scores of evaluations, each once; a person's is 1 or 0.",
            EVALUATION,
            buckets=SCORES,
        )
        self.provider_limits = of_agents(
            "provider_limits",
            "Model calls that a provider refused, each once: by its rate limit, or because a quota is spent.",
            "limit",
            *CALL,
        )
        self.budget_acts = of_agents(
            "budget_acts",
            "What used-up budgets did to tasks (ask, pause, cancel) and to tool calls of hooks (refuse), and raises "
            "by people (raise).",
            "budget",
            "act",
            "tenant",
        )
        self.warnings = of_agents(
            "warnings", "Warnings about tasks, by kind.", "kind", "agent", "environment", "tenant"
        )
        self.checkpoints = counter("checkpoints", "Checkpoints recorded, by kind.", "kind")
        # usage
        self.tokens = of_agents("tokens", "Tokens of model calls, each call once. Input includes cache.", "kind", *CALL)
        self.cost = of_agents("cost_usd", "Cost of model calls in US dollars.", *CALL)
        self.unpriced = of_agents(
            "unpriced_calls", "Model calls without a known cost. spanpost_cost_usd counts the others.", *CALL
        )
        self.model_calls = of_agents("model_calls", "Model calls whose usage is final.", *CALL)
        self.corrections = counter(
            "usage_corrections",
            "Corrections downwards of usage that was counted already. The tables are right, the counters stay "
            "too high.",
        )
        # receivers
        self.events = counter("events", "New audit rows, by part of a span.", "part")
        self.duplicates = counter("duplicate_observations", "Observations that were recorded before.")
        self.ignored = counter("ignored_spans", "Spans that are not an agent's.")
        self.requests = counter(
            "requests", "Requests to the OTLP receivers, by status of the answer.", "endpoint", "signal", "status"
        )
        self.tenant_refused = of_agents(
            "tenant_refused",
            "Requests of a tenant that were refused by a limit of its own: rate, open_tasks, storage. Their senders "
            "repeat them.",
            "limit",
            "tenant",
        )
        self.tenant_gauges = TenantGauges(registry)
        self.metric_points = counter("metric_points", "Data points of OTLP metrics that were accepted and ignored.")
        self.in_flight = Gauge(
            "spanpost_in_flight_bytes",
            "Bytes of requests that the gateway holds.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.queued = Gauge(
            "spanpost_queue_length",
            "Spans and events of an agent's process that wait to be recorded.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.reloads = counter("reloads", "Reloads of the settings, by outcome.", "outcome")
        self.worker_restarts = counter(
            "worker_restarts", "Workers of the gateway that ended unexpectedly and were restarted."
        )
        # cells, at a routing gateway
        self.cell_requests = counter(
            "cell_requests",
            "Requests that a routing gateway passed on to a cell, by class of the answer, or by the reason for which "
            "there was none.",
            "cell",
            "outcome",
        )
        self.cell_answer_duration = Histogram(
            "spanpost_cell_answer_duration_seconds",
            "Time until a cell began to answer a request.",
            ["cell"],
            buckets=COMMITS,
            registry=registry,
        )
        self.cell_up = Gauge(
            "spanpost_cell_up",
            "1 while a gateway of the cell is ready, 0 while none is.",
            ["cell"],
            registry=registry,
            multiprocess_mode="min",
        )
        self.redactions = counter(
            "redactions", "Secrets removed from telemetry, including those of duplicates.", "kind"
        )
        self.dropped = counter(
            "dropped", "Observations or deliveries dropped, by component and reason.", "component", "reason"
        )
        self.spool_bypassed = counter(
            "spool_bypassed", "Spans and events that were kept in memory alone, without the spool.", "reason"
        )
        self.spool_bytes = Gauge(
            "spanpost_spool_bytes", "Size of the spool's directory.", registry=registry, multiprocess_mode="max"
        )
        self.commit_duration = Histogram(
            "spanpost_commit_duration_seconds",
            "Time from the start of a batch to its commit.",
            buckets=COMMITS,
            registry=registry,
        )
        # kafka
        self.kafka_messages = counter(
            "kafka_messages",
            "Messages of a topic: `produced` (all in-sync replicas have it) and `consumed` (it is recorded).",
            "topic",
            "direction",
        )

        self.kafka_up = Gauge(
            "spanpost_kafka_up",
            "1 while the topic takes what this process writes, 0 while it does not.",
            ["topic"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.kafka_partitions = Gauge(
            "spanpost_kafka_partitions",
            "Partitions that this process reads.",
            ["topic"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.kafka_lag_messages = Gauge(
            "spanpost_kafka_lag_messages",
            "Messages of these partitions that are not recorded yet.",
            ["topic"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.kafka_lag_seconds = Gauge(
            "spanpost_kafka_lag_seconds",
            "Age of the oldest of these messages: telemetry is in the tables so long after it was acknowledged.",
            ["topic"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.commit_failures = counter("commit_failures", "Batches whose first attempt to be recorded failed.")
        self.store_up = Gauge(
            "spanpost_store_up",
            "1 while the store answers this process, 0 while it does not.",
            registry=registry,
            multiprocess_mode="min",
        )
        # deliveries
        self.deliveries = counter("deliveries", "Attempts to deliver, by outcome.", "sink", "outcome")
        self.delivery_age = Histogram(
            "spanpost_deliveries_age_seconds",
            "Time from enqueue to delivery.",
            ["sink"],
            buckets=DELIVERIES,
            registry=registry,
        )
        self.last_success = Gauge(
            "spanpost_deliveries_last_success_timestamp_seconds",
            "When a delivery last reached its sink, in Unix time.",
            ["sink"],
            registry=registry,
            multiprocess_mode="max",
        )
        self.coalesced = counter(
            "deliveries_coalesced", "States that a newer state replaced before they were sent.", "sink"
        )
        self.diverted = counter(
            "deliveries_diverted",
            "Deliveries that went to a fallback address, by reason.",
            "sink",
            "reason",
        )
        self.retried = counter(
            "deliveries_retried", "Failed attempts after which a delivery is retried, by reason.", "sink", "reason"
        )
        self.breaker_opened = counter(
            "circuit_breaker_opened",
            "Times that a circuit breaker opened, by sink and reason.",
            "sink",
            "reason",
        )
        self.sink_calls = counter(
            "sink_calls", "Calls of a sink to its service, by method and outcome.", "sink", "method", "outcome"
        )
        # alerts
        self.alerts = counter("alerts", "Alerts received, by source and outcome.", "source", "outcome")
        self.silences = counter(
            "silences",
            "Requests of people to Alertmanager, by verb (silence, unsilence) and outcome.",
            "verb",
            "outcome",
        )
        # interactions
        self.interventions = counter(
            "interventions",
            "Interventions of people, by verb (`view`: to see more), result and source. The result `repeat` is "
            "a duplicate.",
            "verb",
            "result",
            "source",
        )
        self.interactions_requests = counter(
            "interactions_requests",
            "Requests for interactions (Slack, API, webhooks), by endpoint and status.",
            "endpoint",
            "status",
        )
        self.fleet_gauges = FleetGauges(registry)
        build = Gauge(
            "spanpost_build_info",
            "Always 1; the version is a label.",
            ["version"],
            registry=registry,
            multiprocess_mode="max",
        )
        build.labels(version()).set(1)
        # Series that exist from the first moment have a rate from the first moment.
        for kind in Kind:
            self.checkpoints.labels(str(kind))

    def add_dropped(self, component: str, reason: str, n: int) -> None:
        """Count dropped items, under the caller's lock. A name outside the closed lists is ``other``."""
        self.dropped.labels(
            component if component in COMPONENTS else OTHER, reason if reason in DROPPED else OTHER
        ).inc(n)
