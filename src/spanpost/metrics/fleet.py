"""Gauges of all open work in the database. One process at a time shows them."""

from __future__ import annotations

from operator import add

from spanpost.metrics.labels import DROPPED, OTHER
from spanpost.metrics.series import Gauges, Registry
from spanpost.model.fleet import Fleet
from spanpost.semconv import FINAL_STATUSES, STATUSES

_WHO = ("agent", "task_type", "environment", "tenant")
_WHY = ("throttled", "refused", "failing")


class FleetGauges:
    """The figures of `Fleet` as gauges."""

    def __init__(self, registry: Registry) -> None:
        def gauge(name: str, help_text: str, *labels: str) -> Gauges:
            return registry.gauges(f"spanpost_{name}", help_text, labels)

        self.tasks = gauge(
            "tasks_open",
            "Running tasks of all processes on one database; one of them publishes it.",
            "status",
            *_WHO,
        )
        self.stall = gauge(
            "task_quiet_seconds", "Longest time since the last telemetry of a running task.", "status", *_WHO
        )
        self.context_share = gauge(
            "context_used_ratio",
            "Fullest context window of a running task, 0 to 1.",
            "agent",
            "environment",
            "tenant",
        )
        self.context_ahead = gauge(
            "context_forecast_seconds",
            "Shortest time until a context window of a running task reaches its last warning threshold, as "
            "forecast at its last call.",
            "agent",
            "environment",
            "tenant",
        )
        self.looping = gauge(
            "tasks_looping",
            "Running tasks whose agent repeats itself without progress, unless a person let it be.",
            "agent",
            "environment",
            "tenant",
        )
        self.retries = gauge(
            "task_retries",
            "Most retries of a task that failed in the last hour and was not tried again since.",
            "agent",
            "environment",
            "tenant",
        )
        self.approvals = gauge("approvals_open", "Unanswered questions.", "agent", "environment", "tenant")
        self.approval_oldest = gauge(
            "approval_oldest_seconds",
            "Time since the oldest open question was recorded.",
            "agent",
            "environment",
            "tenant",
        )
        self.health = gauge(
            "agent_health_score",
            "Health of an agent, 0 to 100: 100 minus points for failures, stalls, waiting and budgets (view "
            "agent_health).",
            "agent",
            "tenant",
        )
        self.budget_used = gauge(
            "budget_used_ratio",
            "Used share of a budget in its current period, by its tightest limit; of a budget with `per`, the highest.",
            "budget",
            "tenant",
        )
        self.deliveries = gauge("deliveries_waiting", "Deliveries that wait.", "sink")
        self.delivery_oldest = gauge("delivery_oldest_seconds", "Age of the oldest delivery that waits.", "sink")
        self.deliveries_dead = gauge("deliveries_dead", "Dead letters that are kept.", "sink")
        self.breakers = gauge("circuit_breakers_open", "Rate limits whose calls are stopped now, by reason.", "reason")
        self.quarantined = gauge(
            "quarantined_observations",
            "Observations and request bodies that could not be recorded and are kept.",
            "reason",
        )
        self.journal_bytes = gauge(
            "journal_bytes", "Bytes in the journal: acknowledged, durable, and not recorded yet.", "tenant"
        )
        self.journal_lag = gauge("journal_lag_seconds", "Age of a tenant's oldest row of the journal.", "tenant")
        self.seal_lag = gauge("seal_lag_seconds", "Age of the oldest row that may not be sealed yet.")
        self.checkpoint_age = gauge(
            "seal_publication_age_seconds",
            "Time since a checkpoint last left the premises, by way, where a newer one waits.",
            "way",
        )
        self.archived_rows = gauge("archived_rows", "Rows in archives, by table.", "table")
        self.archived_bytes = gauge("archived_bytes", "Size of the files of archives, by table.", "table")
        self.retention_overdue = gauge(
            "retention_overdue_seconds",
            "Time since the oldest rows beyond their retention should have been archived; 0 without such rows.",
        )
        self.retention_age = gauge(
            "retention_run_age_seconds", "Time since retention was last completed without an error."
        )
        self.ending_tokens = gauge(
            "access_tokens_ending",
            "Names of access tokens whose newest token ends within 14 days, or has ended within 14 days.",
            "tenant",
        )
        self.schema = gauge("schema_info", "Always 1; the database's schema is a label.", "version")

    def show(self, fleet: Fleet | None) -> None:
        """Show these figures and no others. None: clear the gauges, because another process shows them."""
        if fleet is None:
            fleet, is_shown = Fleet(), False
        else:
            is_shown = True
        tasks = [((t.status, t.agent_name, t.task_type, t.environment, t.tenant), t) for t in fleet.tasks]
        there = fleet.by_status
        # A status without tasks is a 0 without further labels, so that a rule can tell "none" from "unknown".
        none = [status for status in STATUSES if is_shown and status not in FINAL_STATUSES and status not in there]
        self.tasks.show([(key, t.count) for key, t in tasks], add, zeros=[(status, "", "", "", "") for status in none])
        self.stall.show([(key, t.stall) for key, t in tasks], max)
        who = [((t.agent_name, t.environment, t.tenant), t) for t in fleet.tasks]
        self.context_share.show([(key, t.context_share) for key, t in who if t.context_share is not None], max)
        self.context_ahead.show([(key, t.context_ahead) for key, t in who if t.context_ahead is not None], min)
        self.looping.show([(key, t.looping) for key, t in who], add)
        tried = [((t.agent_name, t.environment, t.tenant), t.retries) for t in fleet.retried]
        self.retries.show(tried, max, zeros=[("", "", "")] if is_shown and not tried else [])
        asked = [((a.agent_name, a.environment, a.tenant), a) for a in fleet.approvals]
        self.approvals.show([(key, a.count) for key, a in asked], add)
        self.approval_oldest.show([(key, a.oldest) for key, a in asked], max)
        self.health.show([((h.agent_name, h.tenant), h.score) for h in fleet.health], min)
        self.budget_used.show([((s.budget, s.tenant), s.share) for s in fleet.spending], max)
        self.deliveries.show([((each.sink,), each.waiting) for each in fleet.deliveries], add)
        self.delivery_oldest.show([((each.sink,), each.oldest) for each in fleet.deliveries], max)
        self.deliveries_dead.show([((each.sink,), each.dead) for each in fleet.deliveries], add)
        self.breakers.show([((why,), fleet.closed_rate_limits.get(why, 0)) for why in _WHY if is_shown], add)
        dead = fleet.quarantined.items()
        self.quarantined.show([((reason if reason in DROPPED else OTHER,), n) for reason, n in dead], add)
        # Without labels where nothing waits, so that a rule can tell none from unknown.
        empty = [("",)] if is_shown and not fleet.journal else []
        self.journal_bytes.show([((each.tenant,), each.size) for each in fleet.journal], add, zeros=empty)
        self.journal_lag.show([((each.tenant,), each.age) for each in fleet.journal], max, zeros=empty)
        empty = [("",)] if is_shown and not fleet.ending_tokens else []
        self.ending_tokens.show([((tenant,), n) for tenant, n in fleet.ending_tokens.items()], add, zeros=empty)
        sealing = [fleet.sealing] if fleet.sealing is not None else []
        self.seal_lag.show([((), each.lag) for each in sealing], max, zeros=[()] if is_shown and not sealing else [])
        ages = [((way,), age) for each in sealing for way, age in each.ways.items()]
        self.checkpoint_age.show(ages, max, zeros=[("",)] if is_shown and not ages else [])
        empty = [("",)] if is_shown and not fleet.archived else []
        self.archived_rows.show([((each.table,), each.rows) for each in fleet.archived], add, zeros=empty)
        self.archived_bytes.show([((each.table,), each.size) for each in fleet.archived], add, zeros=empty)
        lag = [fleet.retention] if fleet.retention is not None else []
        at_rest = [()] if is_shown and not lag else []
        self.retention_overdue.show([((), each.overdue) for each in lag], max, zeros=at_rest)
        self.retention_age.show([((), each.run_age) for each in lag], max, zeros=at_rest)
        self.schema.show([((fleet.schema_version,), 1)] if fleet.schema_version else [], max)
