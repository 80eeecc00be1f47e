"""Settings of the figures that are asked for when a task has ended."""

from __future__ import annotations

import re
from datetime import timedelta

from pydantic import Field, SecretStr, field_validator, model_validator

from spanpost.http.urls import http_url
from spanpost.settings.section import Duration, Section
from spanpost.sinks.fields import FIELDS


class QuerySettings(Section):
    """One figure."""

    query: str = Field(min_length=1, description="PromQL; `${agent}` and the like are filled with the task's, as texts in quotes.")
    compare: bool = Field(default=False, description="Ask of the task's beginning, too: `840 → 310`.")
    unit: str = Field(default="", max_length=12, description="Stands behind the figure.")

    @field_validator("query")
    @classmethod
    def _knows_its_fields(cls, value: str) -> str:
        unknown = sorted(set(re.findall(r"\$\{([^}]*)\}", value)) - set(FIELDS))
        if unknown:
            raise ValueError(f"knows no field ${{{unknown[0]}}}; there are {', '.join(FIELDS)}")
        return value


class ResultsSettings(Section):
    """Figures of a task that has ended, asked of Prometheus and shown with its end: a business metric, before and after."""

    url: str = Field(default="", description="Prometheus, or what speaks its API: `http://prometheus:9090`.")
    token: SecretStr | None = Field(default=None, description="Bearer token for it. Never printed.")
    timeout: Duration = Field(
        default=timedelta(seconds=3),
        gt=timedelta(0),
        le=timedelta(seconds=10),
        description="For all queries of one end; what is not answered by then is left out.",
    )
    queries: dict[str, QuerySettings] = Field(
        default={},
        description='By the name that is shown: `{"checkout p99" = {query = "...", compare = true, unit = "ms"}}`.',
    )

    @field_validator("url")
    @classmethod
    def _leads_somewhere(cls, value: str) -> str:
        return http_url(value) if value else value

    @model_validator(mode="after")
    def _has_somebody_to_ask(self) -> ResultsSettings:
        if self.queries and not self.url:
            raise ValueError("there are queries and nobody to ask: set url to a Prometheus")
        return self
