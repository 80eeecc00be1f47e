"""Settings of the section `metrics`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, field_validator

from spanpost.http.hosts import is_loopback
from spanpost.metrics.labels import SeriesLimits
from spanpost.settings.gateway import digests
from spanpost.settings.guards import are_hosts
from spanpost.settings.section import Duration, Section


class MetricsSettings(Section, SeriesLimits):
    """Prometheus metrics over HTTP. Off in `attach()` unless set; on in `run` and `demo`."""

    enabled: bool = Field(default=True, description="Serve metrics. If any setting of the section is set, it is on.")
    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=9464, ge=0, le=65_535, description="Port to listen on; 0: a free one.")
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Host names under which scrapers reach that port, besides loopback; written as `gateway.hosts`.",
    )
    tokens: tuple[str, ...] = Field(
        default=(),
        description="Hashes of the tokens that scrapers must send (`spanpost token new` makes one). Labels name "
        "tenants and agents: set a token if `host` is not loopback.",
    )
    max_values: int = Field(
        default=SeriesLimits.max_values,
        ge=1,
        description="Maximum number of values of a label (agents, models, …); more are counted under `other`.",
    )
    max_series: int = Field(
        default=SeriesLimits.max_series,
        ge=1,
        description="Maximum number of combinations of such labels in one metric; more are counted under `other`.",
    )
    expire_after: Duration = Field(
        default=SeriesLimits.expire_after,
        gt=timedelta(0),
        description="A series that was not counted for this long is removed; it starts at 0 again.",
    )
    otlp: bool = Field(
        default=False,
        description="Report the same numbers to this process's OpenTelemetry meter provider, under names of the "
        "`gen_ai.*` conventions where they exist. Leave it off if an instrumentation does so already: each "
        "call would count twice.",
    )

    _hosts = field_validator("hosts")(are_hosts)
    _digests = field_validator("tokens")(digests)

    @property
    def exposure(self) -> str:
        """A warning if metrics are served beyond loopback without a token; else empty."""
        if is_loopback(self.host) or self.tokens:
            return ""
        return (
            f"metrics.host: {self.host} serves metrics to the network without a token, and their labels name "
            "tenants and agents; "
            'set metrics.tokens (`spanpost token new` makes one), or host = "127.0.0.1"'
        )
