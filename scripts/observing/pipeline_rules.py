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
        means="The oldest waiting delivery of a sink is older than five minutes. People see events too late, or "
        "not at all.",
        todo=(
            "List closed rate limits with their reasons: `spanpost deliveries limits`. `spanpost check` says "
            "whether the sink's service would accept deliveries.",
            "Look at throttling and at failures by reason in *Pipeline*.",
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
        means="Deliveries were refused for good, or failed until their last retry. They are kept with their errors.",
        todo=(
            "List the errors: `spanpost deliveries list --state dead`.",
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
            "`over_budget`: a trace took too long to record. The log and the table `quarantine` name its tenant.",
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
        "durable, but is in no table, message or figure yet. At `gateway.journal_bytes` senders are asked to retry "
        "(503), and exporters give up after about a minute.",
        todo=(
            "If more telemetry arrives than is recorded, start another gateway on the same database, or send less. "
            "Each gateway also records rows of the journal.",
            "Find the tenants, as the owner of the tables (`spanpost db query` cannot read the journal): "
            "`SELECT tenant, count(*), min(received_at) FROM journal GROUP BY 1`.",
            "If no telemetry arrives and the journal does not shrink, check that a gateway runs, and read its log. "
            "Look in `pg_locks` for a lock that is never released.",
            "Compare the keys: rows whose key no running gateway has are not recorded. `SELECT encode(key, 'hex'), "
            "count(*) FROM journal GROUP BY 1` shows the keys of the rows, and each gateway logs its key when it "
            "starts. Put the missing secret or password into `gateway.journal_keys`.",
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
        means="Recorded rows are not in the sealed log yet. Until they are, a change of them leaves no trace. "
        "Nothing is lost: the sealer continues where it stopped.",
        todo=(
            "Read the gateway's log. Lines of the sealer begin with `sealing:`.",
            "Check that `sealing.enabled` is set for at least one gateway of the database.",
            "Look for a transaction that never ends; it blocks the sealer: `SELECT pid, usename, xact_start FROM "
            "pg_stat_activity WHERE xact_start < now() - interval '10 minutes'`. Prepared transactions are in "
            "`pg_prepared_xacts`.",
            "Run `spanpost audit verify`, which names changed rows. The sealer stops signing if a signed part of "
            "the log was changed. Then keep the database as it is for the person who examines it.",
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
        means="Signed checkpoints of the sealed log do not reach their place outside. The owner of the database and "
        "the key could rewrite all rows since the last one that did.",
        todo=(
            "Read why the last try failed: `SELECT way, failure, tried_at FROM seal_publications`.",
            "Webhook: check that its receiver answers 2xx, and that the token is right. File: check that its disk is "
            "mounted and not full. Time stamp authority: check that `sealing.timestamp_roots` has its present "
            "certificates.",
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
        means="Rows that are older than their retention are still in the database, or no run of retention was "
        "completed for three days. Nothing is lost, but the database grows.",
        todo=(
            "Read the last error: `spanpost check` prints it, and `SELECT * FROM retention_progress` has it.",
            "Check that the disk of `retention.directory` is not full, and that no listed archive is missing. Rows "
            "are deleted only after their file was written and read back.",
            "Check that the owner of the tables allows it: `spanpost archive allow` sets the shortest time for which "
            "rows must be kept.",
            "Run `spanpost archive run` by hand where the directory is. It continues where the last run ended.",
            "If more is due than one run archives, raise `retention.files_per_run`, or shorten `retention.interval`.",
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
        means="At `limits.stored_bytes` the gateway accepts no more telemetry of the tenant. Its senders are answered "
        "503, and drop telemetry when they give up. People's answers are still accepted, and other tenants are not "
        "affected.",
        todo=(
            "Look at the rows and bytes of each tenant: `SELECT * FROM tenant_totals`. If one agent sends much more "
            "than before, limit its rate: `limits.entries_per_second`.",
            "Archive old rows: set shorter times for the tenant in `retention.tenants`, then run `spanpost archive "
            "run`. To delete rows that are not needed, run `spanpost erase --tenant NAME --to TIME`.",
            "Or raise the limit: change `limits.tenants` in the settings, and send SIGHUP. Check first that the disk "
            "is large enough.",
            "Wait for the next measurement: it no longer counts deleted rows. The tables keep their space on the disk.",
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
        "newer token. A sender whose token has ended gets 401. Its telemetry waits at the sender, and is lost when "
        "the sender drops it.",
        todo=(
            "Find the tokens: `spanpost check` names those that end, and `spanpost token list` shows the end and the "
            "last use.",
            "Make a new token: `spanpost token rotate NAME --overlap 7d`. Give it to the sender; the old one stays "
            "valid for the overlap.",
            "Revoke a token that is no longer used: `spanpost token revoke NAME`. An ended one counts for 14 days.",
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
        means="The oldest message of a topic that no consumer has recorded is more than two minutes old. Waiting "
        "telemetry is safe in Kafka until the topic's retention deletes it, but is in no table, message or figure "
        "yet.",
        todo=(
            "If more telemetry arrives than is recorded, start another `spanpost run --consume`. The topic's "
            "partitions are the largest number of consumers that can share the work.",
            "Check that PostgreSQL is up and fast: look at the commit time in *Pipeline*.",
            "Look in the consumers' logs for a partition that waits, and its offset. Either spanpost failed on the "
            "message, or the consumer lacks its key: `gateway.journal_keys` must be the same everywhere.",
            "If no gateway ever had the key, another program wrote the message. Take its right to write to the topic, "
            "stop the consumers, and set `next_offset` of the partition in `kafka_offsets` one higher.",
            "Check that `retention.ms` of the topic is longer than the delay. Messages that Kafka deletes first are "
            'counted as `spanpost_dropped_total{component="kafka",reason="expired"}`.',
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
            "Check that `spanpost run --consume` runs with the same `kafka.topic`, and that Prometheus scrapes it.",
            "Read its log. It waits for its offsets while PostgreSQL is down.",
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
        means="Kafka did not confirm the last messages in time. Senders are asked to retry (503), and exporters give "
        "up after about a minute.",
        todo=(
            "Run `spanpost check`: it says whether the topic can be reached, and with which limits.",
            "Check that the brokers are up, and that each partition has as many in-sync replicas as "
            "`min.insync.replicas`.",
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
        means="The service has throttled calls repeatedly for 20 minutes. Messages still arrive, but later and "
        "with fewer edits.",
        todo=(
            "Post fewer tasks to one channel, or set the verbosity `milestones` for its route.",
            "Check whether another app uses the same token.",
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
        means="The last attempt to write to or read from the database failed. Senders are asked to retry. "
        "Agents with spanpost in their process keep their telemetry in memory or in the spool.",
        todo=(
            "Check that PostgreSQL is up (`spanpost check`), and that spanpost's role still has its rights.",
            "Look at the queues in *Pipeline*: nothing is lost until they are full.",
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
            "If you scaled down on purpose, do nothing.",
            "Otherwise look at the replica's log and its health page.",
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
        "they can. Tenants of other cells are served.",
        todo=(
            "Ask a routing gateway which gateways it tries: `/health/detailed` with an operator's token.",
            "Check that the cell's gateways and its PostgreSQL run. A cell whose database is down is not ready.",
            "Run `spanpost check` on the routing gateway's host: it says whether it reaches them, and whether they "
            "know its token.",
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
        means="Either no spanpost runs, or Prometheus cannot reach any.",
        todo=("Check that it runs: `curl http://…:9464/metrics`.", "Check that it is among Prometheus' targets."),
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
            "Run `spanpost quarantine list`: it shows the source, the reason and the error.",
            "Remove the cause: install a newer release, or for `over_budget` raise `database.trace_budget`. Then run "
            "`spanpost quarantine retry --reason REASON`. Request bodies (`undecodable`) must be sent again.",
            "Delete rows that you have examined: `spanpost quarantine discard ID`.",
        ),
        dashboard="pipeline",
        fires={'spanpost_quarantined_observations{reason="undecodable"}': "2x90"},
        quiet={'spanpost_quarantined_observations{reason="undecodable"}': "0x90"},
        labels={"reason": "undecodable"},
    ),
)
