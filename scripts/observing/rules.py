"""All rules, alerting (`agent_rules`, `pipeline_rules`) and recording."""

from __future__ import annotations

from observing.agent_rules import AGENT_ALERTS
from observing.pipeline_rules import PIPELINE_ALERTS

RECORDED: dict[str, str] = {
    "spanpost:cost_usd:increase1d": "sum by (tenant) (increase(spanpost_cost_usd_total[1d]))",
    "spanpost:tokens:rate1h": "sum by (agent) (rate(spanpost_tokens_total[1h]))",
    "spanpost:errors:rate30m": 'sum by (agent) (rate(spanpost_errors_total{scope="part"}[30m]))',
    "spanpost:replicas": "count(spanpost_build_info)",
    "slack_action_count": 'sum by (type) (label_replace(spanpost_interventions_total{source="slack"}, "type", '
    '"$1", "verb", "(.*)"))',
}

ALERTS = (*AGENT_ALERTS, *PIPELINE_ALERTS)
