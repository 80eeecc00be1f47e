"""Settings of the room `metrics`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, field_validator

from spanpost.http.hosts import is_loopback
from spanpost.settings.gateway import digests
from spanpost.settings.guards import are_hosts
from spanpost.settings.section import Duration, Section


class MetricsSettings(Section):
    """Prometheus metrics over HTTP. Off in `attach()` unless set; on in `run` and `demo`."""

    enabled: bool = Field(default=True, description="Serve them; a room that is named at all is on.")
    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=9464, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Names under which scrapers reach that port, beside loopback: as `gateway.hosts`.",
    )
    tokens: tuple[str, ...] = Field(
        default=(),
        description="Hashes of the tokens that scrapers must send there (`spanpost token new` makes one). Labels name tenants and agents: "
        "set one where `host` is not loopback.",
    )
    max_values: int = Field(
        default=200,
        ge=1,
        description="Values of a label that are told apart (agents, models, …); what is beyond is counted under `other`.",
    )
    max_series: int = Field(
        default=2_000,
        ge=1,
        description="Combinations of such labels in one metric; what is beyond is counted under `other`.",
    )
    expire_after: Duration = Field(
        default=timedelta(hours=48),
        gt=timedelta(0),
        description="Series under which nothing was counted for this long go; when they come again they begin at 0.",
    )
    otlp: bool = Field(
        default=False,
        description="Tell the same to this process's OpenTelemetry meter provider too, under the names of the `gen_ai.*` conventions "
        "where they have one. Leave it off where an instrumentation does so already: each call would count twice.",
    )

    _hosts = field_validator("hosts")(are_hosts)
    _digests = field_validator("tokens")(digests)

    @property
    def exposure(self) -> str:
        """A warning if metrics are served beyond loopback without a token; empty otherwise."""
        if is_loopback(self.host) or self.tokens:
            return ""
        return (
            f"metrics.host: {self.host} serves metrics to the network without a token, and their labels name tenants and agents; "
            'set metrics.tokens (`spanpost token new` makes one), or host = "127.0.0.1"'
        )
