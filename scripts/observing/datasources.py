"""The datasources: their uids, which dashboards' links, alerts and exemplars name, and their provisioning."""

from __future__ import annotations

from typing import Any, Final

PROMETHEUS: Final = "spanpost-prometheus"
POSTGRES: Final = "spanpost-postgres"
#: Any trace backend will do.
TRACES: Final = "spanpost-traces"
#: Their types, as Grafana names the plugins.
TYPES: Final = {PROMETHEUS: "prometheus", POSTGRES: "grafana-postgresql-datasource", TRACES: "tempo"}


def provisioned() -> dict[str, Any]:
    """Return the provisioning. Grafana fills the variables in from its own environment.

    The role for PostgreSQL needs to read, and nothing more.
    """
    datasources = [
        {
            "name": "Prometheus",
            "uid": PROMETHEUS,
            "url": "${PROMETHEUS_URL}",
            "jsonData": {
                "timeInterval": "15s",
                "exemplarTraceIdDestinations": [{"name": "trace_id", "datasourceUid": TRACES}],
            },
        },
        {
            "name": "spanpost",
            "uid": POSTGRES,
            "url": "${SPANPOST_POSTGRES_HOST}",
            "user": "${SPANPOST_POSTGRES_USER}",
            "jsonData": {
                "database": "${SPANPOST_POSTGRES_DATABASE}",
                "sslmode": "${SPANPOST_POSTGRES_SSLMODE}",
                "postgresVersion": 1400,
            },
            "secureJsonData": {"password": "${SPANPOST_POSTGRES_PASSWORD}"},
        },
        {"name": "Traces", "uid": TRACES, "url": "${TEMPO_URL}"},
    ]
    return {
        "apiVersion": 1,
        "datasources": [{**one, "type": TYPES[str(one["uid"])], "access": "proxy"} for one in datasources],
    }
