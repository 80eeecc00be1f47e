"""Rules about spanpost itself: deliveries, the journal, Kafka, the database, cells and replicas."""

from __future__ import annotations

from observing.alert import Alert

PIPELINE_ALERTS = (
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
        name="SpanpostSealLate",
        severity="warning",
        expr="max(spanpost_seal_lag_seconds) > 900",
        hold="5m",
        summary="Audit rows have not been sealed for 15 minutes",
        means="Rows were recorded and are not in the sealed log yet. Until they are, a change of them leaves no trace. "
        "Nothing is lost, and the sealer goes on where it stopped.",
        todo=(
            "What does the gateway's log say? Lines of the sealer begin with `sealing:`.",
            "A transaction that never ends holds the sealer up: `SELECT pid, usename, xact_start FROM "
            "pg_stat_activity WHERE xact_start < now() - interval '10 minutes'`, and prepared ones in "
            "`pg_prepared_xacts`.",
            "The sealer signs no log that no longer begins with what it signed: run `spanpost audit verify`, "
            "which names what was changed, and keep the database as it is for the person who examines it.",
            "`sealing.enabled` has to be set for at least one gateway of the database.",
        ),
        dashboard="pipeline",
        fires={"spanpost_seal_lag_seconds": "2000x90"},
        quiet={"spanpost_seal_lag_seconds": "20x90"},
    ),
    Alert(
        name="SpanpostCheckpointsStay",
        severity="warning",
        expr="max by (way) (spanpost_seal_publication_age_seconds) > 86400",
        hold="10m",
        summary="No checkpoint has left by {{ $labels.way }} for a day",
        means="Checkpoints of the sealed log are signed and do not reach the place outside. The owner of database and "
        "key could rewrite what happened since.",
        todo=(
            "`SELECT way, failure, tried_at FROM seal_publications` says why the last try failed.",
            "A webhook: does its receiver answer 2xx, is the token right? A file: is its disk mounted and not full? "
            "A time stamp authority: are `sealing.timestamp_roots` its present certificates?",
            "Until it works, keep a checkpoint by hand: `spanpost audit checkpoints --last`.",
        ),
        dashboard="pipeline",
        fires={'spanpost_seal_publication_age_seconds{way="webhook"}': "100000x90"},
        quiet={'spanpost_seal_publication_age_seconds{way="webhook"}': "4000x90"},
        labels={"way": "webhook"},
    ),
    Alert(
        name="SpanpostRetentionLate",
        severity="warning",
        expr="max(spanpost_retention_overdue_seconds) > 259200 or max(spanpost_retention_run_age_seconds) > 259200",
        hold="10m",
        summary="Old rows have not been archived for three days",
        means="Rows are older than their retention and still in the database, or no run of retention was completed for "
        "three days. Nothing is lost; the database grows.",
        todo=(
            "`SELECT * FROM retention_progress` holds the last error, and `spanpost check` says it, too.",
            "Is the disk of `retention.directory` full, or is an archive missing that is listed? Nothing is deleted "
            "from the database before its file is written and read back.",
            "Does the owner of the tables allow it? `spanpost archive allow` stores the shortest time for which rows "
            "have to be kept.",
            "Run `spanpost archive run` by hand where the directory is; it goes on where the last run ended.",
            "More is due than a run archives: raise `retention.files_per_run`, or shorten `retention.interval`.",
        ),
        dashboard="pipeline",
        fires={"spanpost_retention_run_age_seconds": "300000x90"},
        quiet={"spanpost_retention_run_age_seconds": "90000x90", "spanpost_retention_overdue_seconds": "0x90"},
    ),
    Alert(
        name="SpanpostTenantStorage",
        severity="warning",
        expr="max by (tenant) (spanpost_tenant_storage_used_ratio) > 0.9",
        hold="10m",
        summary="Tenant {{ $labels.tenant }} has stored more than 90 % of what it may store",
        means="At `limits.stored_bytes` nothing more of the tenant is taken: its senders are answered 503, and drop "
        "telemetry when they give up. People's answers still get through, and other tenants are not concerned.",
        todo=(
            "`SELECT * FROM tenant_totals` shows rows and bytes of each tenant, and when they were measured. Does one "
            "agent send much more than before? Limit its rate: `limits.entries_per_second`.",
            "Remove what is old: shorter times for the tenant in `retention.tenants`, then `spanpost archive run`; or "
            "`spanpost erase --tenant NAME --to TIME`, if the rows are not needed.",
            "Or raise the limit: `limits.tenants` in the settings and SIGHUP. Is the disk large enough?",
            "Deleted rows are not counted from the next measurement on. Their space stays with the tables.",
        ),
        dashboard="pipeline",
        fires={'spanpost_tenant_storage_used_ratio{tenant="acme",instance="a:1"}': "0.95x90"},
        quiet={
            'spanpost_tenant_storage_used_ratio{tenant="acme",instance="a:1"}': "0.85x90",
            'spanpost_tenant_storage_used_ratio{tenant=""}': "0x90",
        },
        labels={"tenant": "acme"},
    ),
    Alert(
        name="SpanpostTokensEnding",
        severity="warning",
        expr="max by (tenant) (spanpost_access_tokens_ending) > 0",
        hold="10m",
        summary="Access tokens end within 14 days, or have ended (tenant: {{ $labels.tenant }})",
        means="Tokens of the database end within 14 days, or ended within the last 14 days, and their names have no "
        "newer token. A sender whose token has ended gets 401: its telemetry waits as long as it keeps it, and is "
        "then lost.",
        todo=(
            "`spanpost token list` shows the ends and the last use; `spanpost check` names the tokens that end.",
            "`spanpost token rotate NAME --overlap 7d` makes a new token; the old one stays valid for the overlap. "
            "Give the new one to the sender.",
            "Revoke a token that is not used any more (`spanpost token revoke NAME`). An ended one counts for 14 days.",
        ),
        dashboard="pipeline",
        fires={'spanpost_access_tokens_ending{tenant="t"}': "2x90"},
        quiet={'spanpost_access_tokens_ending{tenant=""}': "0x90"},
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
            "The log of a consumer names a partition that waits, and the offset: the message is encrypted with a key "
            "that the consumer does not have (`gateway.journal_keys` must be the same everywhere), or spanpost failed "
            "on it. If no gateway ever had the key, another program wrote the message: take its right to write to the "
            "topic, stop the consumers, and set `next_offset` of the partition in `kafka_offsets` one higher.",
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
            "`spanpost quarantine list` shows its source, the reason and the error.",
            "Mend the cause: a newer release, or for `over_budget` more of `database.trace_budget`. Then "
            "`spanpost quarantine retry --reason REASON` records observations again. Request bodies (`undecodable`) "
            "must be sent again.",
            "`spanpost quarantine discard ID` deletes rows after you have examined them.",
        ),
        dashboard="pipeline",
        fires={'spanpost_quarantined_observations{reason="undecodable"}': "2x90"},
        quiet={'spanpost_quarantined_observations{reason="undecodable"}': "0x90"},
        labels={"reason": "undecodable"},
    ),
)
