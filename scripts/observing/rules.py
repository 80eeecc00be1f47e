"""The rules: their expressions, severity and remedies, and cases in which each fires and stays quiet."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Series of a test: name with labels, to values in promtool's notation.
Series = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One alerting rule."""

    name: str
    severity: str
    expr: str
    hold: str
    summary: str
    means: str
    todo: tuple[str, ...]
    dashboard: str
    fires: Series
    quiet: Series
    at: str = "1h"
    #: Labels of the alert in the case that fires, beside severity.
    labels: dict[str, str] = field(default_factory=dict)
    #: Status of the agent's task that the alert concerns: if exactly one task has it, the alert is posted in
    #: its thread.
    about: str = ""

    @property
    def page(self) -> str:
        """Name of the runbook page."""
        words = "".join(f"-{c.lower()}" if c.isupper() else c for c in self.name.removeprefix("Spanpost"))
        return words.strip("-")


RECORDED: dict[str, str] = {
    "spanpost:cost_usd:increase1d": "sum by (tenant) (increase(spanpost_cost_usd_total[1d]))",
    "spanpost:tokens:rate1h": "sum by (agent) (rate(spanpost_tokens_total[1h]))",
    "spanpost:errors:rate30m": 'sum by (agent) (rate(spanpost_errors_total{scope="part"}[30m]))',
    "spanpost:replicas": "count(spanpost_build_info)",
    "slack_action_count": 'label_replace(sum by (verb) (spanpost_interventions_total{source="slack"}), "type", '
    '"$1", "verb", "(.*)")',
}

WHO = "agent, environment, tenant"
_A = 'agent="coder",environment="prod",tenant="t"'
_WHO = {"agent": "coder", "environment": "prod", "tenant": "t"}

ALERTS = (
    Alert(
        name="SpanpostTaskStalled",
        severity="warning",
        expr=f'sum by ({WHO}) (spanpost_tasks_open{{status="stalled"}}) > 0',
        hold="2m",
        summary="A task of {{ $labels.agent }} is stalled",
        means="A running task has sent no telemetry for longer than `stall.stall_after` (5 minutes), and no "
        "call is known to be open.",
        todo=(
            "Open the task in the dashboard *Task*: its last step and last tool call show where it stopped.",
            "Does its process still run? Tasks of a lost process are shown as *interrupted*, not as stalled.",
            "Retry or cancel it from its Slack thread.",
        ),
        dashboard="fleet",
        fires={f'spanpost_tasks_open{{status="stalled",task_type="x",{_A}}}': "1x90"},
        quiet={
            f'spanpost_tasks_open{{status="working",task_type="x",{_A}}}': "5x90",
            'spanpost_tasks_open{status="stalled"}': "0x90",
        },
        labels=_WHO,
        about="stalled",
    ),
    Alert(
        name="SpanpostTasksFailing",
        severity="warning",
        expr=f'sum by ({WHO}) (increase(spanpost_tasks_ended_total{{status="error"}}[15m])) >= 3'
        f' and sum by ({WHO}) (increase(spanpost_tasks_ended_total{{status="error"}}[15m]))'
        f" / sum by ({WHO}) (increase(spanpost_tasks_ended_total[15m])) > 0.5",
        hold="0m",
        summary="More than half of the tasks of {{ $labels.agent }} fail",
        means="At least three runs of one agent failed within 15 minutes, and more failed than succeeded.",
        todo=(
            "See the errors by type in *Fleet*: one type means one cause (a key, a provider, a deploy), many "
            "types mean the agent itself.",
            "List the tasks with `spanpost tasks --status error`; each task's thread has the end of its log.",
        ),
        dashboard="fleet",
        fires={
            f'spanpost_tasks_ended_total{{status="error",{_A}}}': "0+1x90",
            f'spanpost_tasks_ended_total{{status="complete",{_A}}}': "0x90",
        },
        quiet={
            f'spanpost_tasks_ended_total{{status="error",{_A}}}': "0+1x90",
            f'spanpost_tasks_ended_total{{status="complete",{_A}}}': "0+4x90",
        },
        labels=_WHO,
    ),
    Alert(
        name="SpanpostApprovalWaiting",
        severity="warning",
        expr=f"max by ({WHO}) (spanpost_approval_oldest_seconds) > 1800",
        hold="0m",
        summary="{{ $labels.agent }} waits for a person for more than half an hour",
        means="A question to a person has had no answer for 30 minutes. The task waits meanwhile.",
        todo=(
            "Answer it in its Slack thread, or cancel the task.",
            "If no person saw it: does its route lead to a channel that people read?",
        ),
        dashboard="fleet",
        fires={f"spanpost_approval_oldest_seconds{{{_A}}}": "0+60x90"},
        quiet={f"spanpost_approval_oldest_seconds{{{_A}}}": "0+10x90"},
        labels=_WHO,
        about="waiting",
    ),
    Alert(
        name="SpanpostContextNearlyFull",
        severity="warning",
        expr=f"max by ({WHO}) (spanpost_context_used_ratio) > 0.85",
        hold="0m",
        summary="The context window of {{ $labels.agent }} is more than 85 % full",
        means="A running task has used more than 85 % of its model's context window: it will soon compact, "
        "forget or fail.",
        todo=(
            "Let it finish its step, then hand over to a fresh task or compact.",
            "Find in *Task* what filled it: usually one tool's output.",
        ),
        dashboard="spend",
        fires={f"spanpost_context_used_ratio{{{_A}}}": "0.9x90"},
        quiet={f"spanpost_context_used_ratio{{{_A}}}": "0.84x90"},
        labels=_WHO,
        about="context_warning",
    ),
    Alert(
        name="SpanpostContextForecast",
        severity="info",
        expr=f"min by ({WHO}) (spanpost_context_forecast_seconds) < 120",
        hold="0m",
        summary="The context window of {{ $labels.agent }} is forecast to be full within two minutes",
        means="At the pace of its last calls a task reaches its last warning threshold within two minutes.",
        todo=("Do nothing at once. If it happens often, give the agent smaller tool outputs or a larger window.",),
        dashboard="spend",
        fires={f"spanpost_context_forecast_seconds{{{_A}}}": "60x90"},
        quiet={f"spanpost_context_forecast_seconds{{{_A}}}": "600x90"},
        labels=_WHO,
    ),
    *(
        Alert(
            name=name,
            severity=severity,
            expr=f"max by (budget, tenant) (spanpost_budget_used_ratio) >= {share}",
            hold="0m",
            summary=f"{{{{ $labels.tenant }}}} has spent {percent} of the budget {{{{ $labels.budget }}}}",
            means=f"Finalized usage in the budget's current period reached {percent} of its limit (`budgets`); "
            f"for a budget with "
            "`per`, in one of its scopes. Calls without a known price are not included: see "
            "`spanpost_unpriced_calls_total`.",
            todo=(
                "`spanpost spending` lists what is spent in each scope; *Spend and context* shows it by agent "
                "and model.",
                "Agents that ask `control.budget()` stop by themselves; spanpost does not stop others. Raise "
                "the limit, or cancel tasks.",
            ),
            dashboard="spend",
            fires={'spanpost_budget_used_ratio{budget="research",tenant="t"}': f"{share + 0.05:g}x90"},
            quiet={'spanpost_budget_used_ratio{budget="research",tenant="t"}': f"{share - 0.05:g}x90"},
            labels={"tenant": "t", "budget": "research"},
        )
        for name, severity, share, percent in (
            ("SpanpostBudgetNearlySpent", "warning", 0.8, "80 %"),
            ("SpanpostBudgetSpent", "critical", 1, "all"),
        )
    ),
    Alert(
        name="SpanpostAgentUnhealthy",
        severity="warning",
        expr="min by (agent, tenant) (spanpost_agent_health_score) < 60",
        hold="15m",
        summary="The health of {{ $labels.agent }} is below 60 of 100",
        means="Failed, stalled or interrupted tasks, unanswered questions and a spent budget together cost the "
        "agent more than 40 of 100 points.",
        todo=(
            '`spanpost db query "SELECT * FROM agent_health ORDER BY score"` shows the points lost by each cause.',
            "*Fleet* shows these tasks.",
        ),
        dashboard="fleet",
        fires={'spanpost_agent_health_score{agent="coder",tenant="t"}': "45x90"},
        quiet={'spanpost_agent_health_score{agent="coder",tenant="t"}': "75x90"},
        labels={"agent": "coder", "tenant": "t"},
    ),
    Alert(
        name="SpanpostAgentsAtQuota",
        severity="critical",
        # Only working agents count: an agent that met a limit and ended must not stand for another.
        expr="count((sum by (agent) (increase(spanpost_provider_limits_total[10m])) > 0)"
        ' and on (agent) (sum by (agent) (spanpost_tasks_open{agent!=""}) > 0))'
        ' >= count(sum by (agent) (spanpost_tasks_open{agent!=""}) > 0)',
        hold="2m",
        summary="All working agents are held back by their providers' limits",
        means="Every agent with a running task met a rate limit or a quota within ten minutes.",
        todo=(
            "Look at the provider's console for a spent quota, or a limit per minute.",
            "Run fewer tasks at once, or use another account.",
        ),
        dashboard="spend",
        fires={
            f'spanpost_provider_limits_total{{limit="rate_limit",model="m",{_A}}}': "0+1x90",
            f'spanpost_tasks_open{{status="working",{_A}}}': "1x90",
        },
        quiet={
            f'spanpost_provider_limits_total{{limit="rate_limit",model="m",{_A}}}': "0+1x90",
            f'spanpost_tasks_open{{status="working",{_A}}}': "1x90",
            'spanpost_tasks_open{status="working",agent="writer",environment="prod",tenant="t"}': "1x90",
            'spanpost_provider_limits_total{limit="quota",model="m",agent="done",environment="prod",'
            'tenant="t"}': "0+1x90",
        },
    ),
    Alert(
        name="SpanpostErrorsUnusual",
        severity="warning",
        expr="spanpost:errors:rate30m > 3 * avg_over_time(spanpost:errors:rate30m[6h] offset 30m)"
        ' and sum by (agent) (increase(spanpost_errors_total{scope="part"}[30m])) >= 5',
        hold="5m",
        summary="{{ $labels.agent }} meets far more errors than usual",
        means="Calls and parts of one agent fail three times as often as in the previous six hours, and at "
        "least five times in half an hour.",
        todo=("Which error is new in *Fleet*, errors by type?", "Did a tool, a model or the agent itself change?"),
        dashboard="fleet",
        fires={f'spanpost_errors_total{{error_type="X",scope="part",{_A}}}': "0+0.01x420 4+2x60"},
        quiet={f'spanpost_errors_total{{error_type="X",scope="part",{_A}}}': "0+1x480"},
        at="7h30m",
        labels={"agent": "coder"},
    ),
    Alert(
        name="SpanpostTokensUnusual",
        severity="warning",
        expr="spanpost:tokens:rate1h > 4 * avg_over_time(spanpost:tokens:rate1h[6h] offset 1h) and "
        "spanpost:tokens:rate1h > 100",
        hold="10m",
        summary="{{ $labels.agent }} uses far more tokens than usual",
        means="One agent uses more than four times the tokens of the previous six hours, and more than 100 a second.",
        todo=("Is it a loop? *Task* shows repeated calls.", "Cancel a runaway task from its Slack thread."),
        dashboard="spend",
        fires={f'spanpost_tokens_total{{kind="input",model="m",{_A}}}': "0+600x420 260000+60000x90"},
        quiet={f'spanpost_tokens_total{{kind="input",model="m",{_A}}}': "0+60000x510"},
        at="8h",
        labels={"agent": "coder"},
    ),
    Alert(
        name="SpanpostCheckpointsLate",
        severity="critical",
        expr="max by (sink) (spanpost_delivery_oldest_seconds) > 300",
        hold="2m",
        summary="Messages to {{ $labels.sink }} are more than five minutes late",
        means="The oldest waiting delivery of a sink is older than five minutes: people see events too late, or "
        "not at all.",
        todo=(
            "`spanpost deliveries limits` lists closed rate limits with the reason; `spanpost check` says "
            "whether the far side would accept deliveries.",
            "*Pipeline* shows throttling and failures by reason.",
        ),
        dashboard="pipeline",
        fires={'spanpost_delivery_oldest_seconds{sink="slack"}': "400x90"},
        quiet={'spanpost_delivery_oldest_seconds{sink="slack"}': "200x90"},
        labels={"sink": "slack"},
    ),
    Alert(
        name="SpanpostDeliveriesDead",
        severity="critical",
        expr='sum by (sink) (increase(spanpost_deliveries_total{outcome="dead"}[1h])) > 0',
        hold="0m",
        summary="Deliveries to {{ $labels.sink }} became dead letters",
        means="Deliveries failed for as long as they may be retried, or were refused for good. They are kept "
        "with their errors.",
        todo=(
            "See the errors with `spanpost deliveries list --state dead`.",
            "Remove the cause, then run `spanpost deliveries retry`.",
        ),
        dashboard="pipeline",
        fires={'spanpost_deliveries_total{sink="slack",outcome="dead"}': "0x30 1x60"},
        quiet={'spanpost_deliveries_total{sink="slack",outcome="delivered"}': "0+1x90"},
        labels={"sink": "slack"},
    ),
    Alert(
        name="SpanpostObservationsDropped",
        severity="critical",
        expr="sum by (component, reason) "
        '(increase(spanpost_dropped_total{component!="sinks",reason!~"superseded|closed|no_task"}[10m])) > 0',
        hold="0m",
        summary="Telemetry is lost in {{ $labels.component }}: {{ $labels.reason }}",
        means="Spans, events or records of agents were dropped. The audit has a gap.",
        todo=(
            "`queue_full`: the database is slower than the agents. Look at the commit time in *Pipeline*, or "
            "turn the spool on.",
            "`undecodable`, `bad_…`: a sender is broken. Its bodies are in the table `quarantine`.",
            "`over_budget`: a trace took too long to record. The log and `quarantine` name its tenant.",
        ),
        dashboard="pipeline",
        fires={'spanpost_dropped_total{component="intake",reason="queue_full"}': "0+1x90"},
        quiet={
            'spanpost_dropped_total{component="intake",reason="queue_full"}': "7x90",
            'spanpost_dropped_total{component="intake",reason="superseded"}': "0+1x90",
        },
        labels={"component": "intake", "reason": "queue_full"},
    ),
    Alert(
        name="SpanpostJournalLate",
        severity="warning",
        expr="max by (tenant) (spanpost_journal_lag_seconds) > 120",
        hold="2m",
        summary="Telemetry of {{ $labels.tenant }} is recorded minutes after it was acknowledged",
        means="The oldest row of the journal has waited for more than two minutes. Waiting telemetry is "
        "durable, but is in no table, message or "
        "figure yet. The gateway still records new requests directly while it has capacity to spare.",
        todo=(
            "More telemetry arrives than is recorded: start another gateway on the same database (it helps to "
            "work off the journal), or send less.",
            "`spanpost db query` cannot read the journal; its owner can: `SELECT tenant, count(*), "
            "min(received_at) FROM journal GROUP BY 1` "
            "shows its tenants.",
            "No telemetry arrives, and the journal does not shrink: does a gateway run, and what does its log "
            "say? Look for a lock that is "
            "never released in `pg_locks`.",
            "Rows whose key no running gateway has are not recorded: `SELECT encode(key, 'hex'), count(*) FROM "
            "journal GROUP BY 1` shows "
            "the keys, and each gateway logs its key when it starts. Put the missing secret or password into "
            "`gateway.journal_keys`.",
            "At `gateway.journal_bytes` senders are asked to retry (503). Exporters give up after about a minute.",
        ),
        dashboard="pipeline",
        fires={'spanpost_journal_lag_seconds{tenant="t"}': "300x90"},
        quiet={'spanpost_journal_lag_seconds{tenant="t"}': "60x90"},
        labels={"tenant": "t"},
    ),
    Alert(
        name="SpanpostKafkaLate",
        severity="warning",
        expr="max by (topic) (spanpost_kafka_lag_seconds) > 120",
        hold="2m",
        summary="Telemetry of topic {{ $labels.topic }} is recorded minutes after it was acknowledged",
        means="The oldest message of a topic that a consumer has not recorded is more than two minutes old. Waiting "
        "telemetry is safe in Kafka until the topic's retention deletes it, but is in no table, message or figure "
        "yet.",
        todo=(
            "More telemetry arrives than is recorded: start another `spanpost run --consume`. At most as many share "
            "the work as the topic has partitions.",
            "Is PostgreSQL down or slow? Look at the commit time in *Pipeline*.",
            "The log of a consumer names a partition that waits: a message is encrypted with a key that the consumer "
            "does not have (`gateway.journal_keys` must be the same everywhere), or spanpost failed on it.",
            "Is `retention.ms` of the topic longer than the delay? Messages that Kafka deletes first are counted as "
            '`spanpost_dropped_total{component="kafka",reason="expired"}`.',
        ),
        dashboard="pipeline",
        fires={'spanpost_kafka_lag_seconds{topic="spanpost"}': "300x90"},
        quiet={'spanpost_kafka_lag_seconds{topic="spanpost"}': "60x90"},
        labels={"topic": "spanpost"},
    ),
    Alert(
        name="SpanpostKafkaUnread",
        severity="critical",
        expr='sum by (topic) (rate(spanpost_kafka_messages_total{direction="produced"}[5m])) > 0 '
        "unless sum by (topic) (spanpost_kafka_partitions) > 0",
        hold="3m",
        summary="Nothing reads topic {{ $labels.topic }}",
        means="Gateways write to a topic, and no consumer that Prometheus scrapes has a partition of it.",
        todo=(
            "Does `spanpost run --consume` run, with the same `kafka.topic`, and is it scraped?",
            "What does its log say? It waits for its offsets while PostgreSQL is down.",
        ),
        dashboard="pipeline",
        fires={'spanpost_kafka_messages_total{topic="spanpost",direction="produced"}': "0+60x90"},
        quiet={
            'spanpost_kafka_messages_total{topic="spanpost",direction="produced"}': "0+60x90",
            'spanpost_kafka_partitions{topic="spanpost"}': "4x90",
        },
        labels={"topic": "spanpost"},
    ),
    Alert(
        name="SpanpostKafkaDown",
        severity="critical",
        expr="min by (instance, topic) (spanpost_kafka_up) == 0",
        hold="1m",
        summary="spanpost on {{ $labels.instance }} cannot write to topic {{ $labels.topic }}",
        means="Kafka did not confirm the last messages in time. Senders are asked to retry (503); exporters give up "
        "after about a minute.",
        todo=(
            "Are the brokers up, and has each partition as many in-sync replicas as `min.insync.replicas`?",
            "`spanpost check` says whether the topic can be reached, and with which limits.",
        ),
        dashboard="pipeline",
        fires={'spanpost_kafka_up{instance="a:9464",topic="spanpost"}': "0x90"},
        quiet={'spanpost_kafka_up{instance="a:9464",topic="spanpost"}': "1x90"},
        labels={"instance": "a:9464", "topic": "spanpost"},
    ),
    Alert(
        name="SpanpostSlackThrottled",
        severity="warning",
        expr='sum by (sink) (increase(spanpost_sink_calls_total{outcome="throttled"}[10m])) > 0',
        hold="20m",
        summary="{{ $labels.sink }} has throttled spanpost for 20 minutes",
        means="The service has throttled calls again and again for 20 minutes. Messages still arrive, later and "
        "with fewer edits.",
        todo=(
            "Post fewer tasks to one channel, or set the verbosity `milestones` for its route.",
            "Does another app share the token?",
        ),
        dashboard="pipeline",
        fires={'spanpost_sink_calls_total{sink="slack",method="chat.update",outcome="throttled"}': "0+1x90"},
        quiet={'spanpost_sink_calls_total{sink="slack",method="chat.update",outcome="throttled"}': "0x50 1x40"},
        labels={"sink": "slack"},
    ),
    Alert(
        name="SpanpostDatabaseDown",
        severity="critical",
        expr="spanpost_store_up == 0",
        hold="1m",
        summary="spanpost on {{ $labels.instance }} does not reach its database",
        means="The last attempt to write to or read from the database failed. Senders are asked to retry; "
        "agents with spanpost in process keep their telemetry in memory or spool.",
        todo=(
            "Is PostgreSQL up, and does its role still have its rights?",
            "Nothing is lost while the queues hold: look at *Pipeline*.",
        ),
        dashboard="pipeline",
        fires={'spanpost_store_up{instance="a:9464"}': "0x90"},
        quiet={'spanpost_store_up{instance="a:9464"}': "1x90"},
        labels={"instance": "a:9464"},
    ),
    Alert(
        name="SpanpostReplicaMissing",
        severity="warning",
        expr="spanpost:replicas < max_over_time(spanpost:replicas[1h])",
        hold="10m",
        summary="A replica of spanpost is missing",
        means="Prometheus scrapes fewer processes than within the last hour. After an hour the smaller number "
        "counts as normal.",
        todo=(
            "Was it scaled down on purpose? Then there is nothing to do.",
            "Otherwise look at its log and its health page.",
        ),
        dashboard="pipeline",
        fires={'spanpost_build_info{instance="a:1"}': "1x90", 'spanpost_build_info{instance="b:1"}': "1x40 stale"},
        quiet={'spanpost_build_info{instance="a:1"}': "1x90", 'spanpost_build_info{instance="b:1"}': "1x90"},
    ),
    Alert(
        name="SpanpostCellDown",
        severity="critical",
        expr="max by (cell) (spanpost_cell_up) == 0",
        hold="2m",
        summary="No gateway of cell {{ $labels.cell }} is ready",
        means="The routing gateways answer 503 to the tenants of this cell. Senders keep their telemetry as long as "
        "they can; tenants of other cells are served.",
        todo=(
            "Ask a router which gateways it tries: `/health/detailed` with an operator's token.",
            "Are the cell's gateways running, and is its PostgreSQL? A cell whose database is down is not ready.",
            "Does the router reach them, and do they know its token? `spanpost check` on the router's host says so.",
        ),
        dashboard="pipeline",
        fires={
            'spanpost_cell_up{cell="a",instance="r:1"}': "1x5 0x60",
            'spanpost_cell_up{cell="b",instance="r:1"}': "1x65",
        },
        quiet={
            'spanpost_cell_up{cell="a",instance="r:1"}': "0x65",
            'spanpost_cell_up{cell="a",instance="r:2"}': "1x65",
        },
        labels={"cell": "a"},
    ),
    Alert(
        name="SpanpostTasksGone",
        severity="critical",
        expr="absent(spanpost_build_info)",
        hold="2m",
        summary="No spanpost is scraped at all",
        means="Either none runs, or Prometheus cannot reach any.",
        todo=("Is it running? `curl http://…:9464/metrics`", "Is it among Prometheus' targets?"),
        dashboard="pipeline",
        fires={"up": "1x90"},
        quiet={'spanpost_build_info{instance="a:1"}': "1x90"},
    ),
    Alert(
        name="SpanpostObservationsQuarantined",
        severity="info",
        expr="sum by (reason) (spanpost_quarantined_observations) > 0",
        hold="10m",
        summary="Unreadable bodies are in quarantine: {{ $labels.reason }}",
        means="An observation could not be recorded. It is kept with its bytes in the table `quarantine`.",
        todo=(
            '`spanpost db query "SELECT source, error FROM quarantine"` shows its source and the error.',
            "Delete the rows after you have examined them.",
        ),
        dashboard="pipeline",
        fires={'spanpost_quarantined_observations{reason="undecodable"}': "2x90"},
        quiet={'spanpost_quarantined_observations{reason="undecodable"}': "0x90"},
        labels={"reason": "undecodable"},
    ),
)
