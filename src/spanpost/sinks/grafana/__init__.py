"""Grafana: tasks as annotations, over its HTTP API."""

from __future__ import annotations

from spanpost.model.errors import ConfigError
from spanpost.sinks.base import Sink
from spanpost.sinks.grafana.settings import GrafanaSettings
from spanpost.sinks.plugin import SinkPlugin


def _open(settings: GrafanaSettings) -> Sink:
    try:
        from spanpost.sinks.grafana.sink import GrafanaSink
        from spanpost.sinks.grafana.transport import Wire
    except ImportError as error:
        raise ConfigError(
            f"grafana: {error.name} is missing; install it with: pip install 'spanpost[grafana]'"
        ) from error
    if settings.token is None:
        raise ConfigError(
            "grafana.token: annotations need a service account's token; set SPANPOST_GRAFANA__TOKEN (glsa_...), or "
            "leave grafana.url alone: links need no token"
        )
    wire = Wire(settings.url, settings.token.get_secret_value(), org_id=settings.org_id, timeout=settings.timeout)
    return GrafanaSink(settings, wire)


plugin = SinkPlugin(name="grafana", settings=GrafanaSettings, open=_open)
