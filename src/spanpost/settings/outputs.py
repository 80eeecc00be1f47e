"""Settings of the section `outputs`: figures that are queried when a task has ended."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from spanpost.http.urls import http_url
from spanpost.launchers.registry import NAME
from spanpost.model.task_acts import TASK_ACTS
from spanpost.settings.section import Duration, Section
from spanpost.sinks.fields import LISTED, unknown
from spanpost.sinks.outputs import EntityCommand, OutputQuery, is_quoted

#: Words that `/agents` has itself.
RESERVED = frozenset({"list", "show", "start", "help", *map(str, TASK_ACTS)})


def _quoted(query: str) -> str:
    """Return a query. Raises ValueError where an agent's words could be more than a text in it."""
    if not is_quoted(query):
        raise ValueError('has a field outside of quotes; write it as {agent="${agent}"}')
    return query


class QuerySettings(Section, OutputQuery):
    """The query of one figure."""

    query: str = Field(
        min_length=1,
        description="PromQL; `${agent}`, `${attributes.dealer}` and the like are replaced by the task's values. "
        "They stand in quotes; after `=~` they match literally.",
    )
    compare: bool = Field(default=False, description="Query the start of the task as well: `840 → 310`.")
    unit: str = Field(default="", max_length=12, description="Unit after the figure.")
    currency: str = Field(
        default="", max_length=4, description="Currency in front of the figure, which then has two decimals: `$`."
    )

    @field_validator("query")
    @classmethod
    def _knows_its_fields(cls, value: str) -> str:
        if wrong := unknown(re.findall(r"\$\{([^}]*)\}", value)):
            raise ValueError(f"knows no field ${{{wrong}}}; there are {LISTED}")
        return _quoted(value)


class EntityQuerySettings(Section, OutputQuery):
    """The query of one figure of an entity, as of now."""

    query: str = Field(min_length=1, description="PromQL; `${entity}` is replaced by the named entity, as quoted text.")
    unit: str = Field(default="", max_length=12, description="Unit after the figure.")
    currency: str = Field(default="", max_length=4, description="Currency in front of the figure: `$`.")

    @field_validator("query")
    @classmethod
    def _is_about_an_entity(cls, value: str) -> str:
        if set(re.findall(r"\$\{([^}]*)\}", value)) != {"entity"}:
            raise ValueError("must have ${entity}, and no other field")
        return _quoted(value)


class EntityCommandSettings(Section, EntityCommand):
    """A word of `/agents` that answers with figures of one entity: `/agents status dealer-12`."""

    what: str = Field(default="", max_length=60, description="The entities, for the help: `a dealer`.")
    tenant: str | None = Field(
        default=None, min_length=1, description="Tenant whose workspaces may ask; not given: `intake.tenant`."
    )
    start: dict[str, Annotated[str, StringConstraints(max_length=1_000)]] = Field(
        default={},
        max_length=5,
        description='Launchers with a *Run* button below the answer, and their work: `{fixer = "Fix {entity}"}`. Shown '
        "to people who may start them.",
    )
    queries: dict[str, EntityQuerySettings] = Field(
        min_length=1, max_length=10, description="Queries by the name to show, as in `outputs.queries`."
    )


class ResultsSettings(Section):
    """Figures of a task that has ended, queried from Prometheus and shown with its end: a business metric,
    before and after.
    """

    url: str = Field(default="", description="Prometheus, or a server with its API: `http://prometheus:9090`.")
    token: SecretStr | None = Field(default=None, description="Bearer token for it. Never printed.")
    timeout: Duration = Field(
        default=timedelta(seconds=3),
        gt=timedelta(0),
        le=timedelta(seconds=10),
        description="Time limit of all queries for one task's end. Late answers are left out.",
    )
    queries: dict[str, QuerySettings] = Field(
        default={},
        description='Queries by the name to show: `{"checkout p99" = {query = "...", compare = true, unit = "ms"}}`.',
    )

    commands: dict[str, EntityCommandSettings] = Field(
        default={},
        max_length=10,
        description="Words of `/agents` that answer with figures of an entity; each is an `[outputs.commands.<word>]` "
        "(below).",
    )

    @field_validator("commands")
    @classmethod
    def _are_words(cls, value: dict[str, EntityCommandSettings]) -> dict[str, EntityCommandSettings]:
        for word in value:
            if not NAME.fullmatch(word) or len(word) > 30 or word in RESERVED:
                raise ValueError(f"{word[:60]!r}: a command is a word of lower-case letters that /agents does not have")
        return value

    @field_validator("url")
    @classmethod
    def _leads_somewhere(cls, value: str) -> str:
        return http_url(value) if value else value

    @model_validator(mode="after")
    def _has_url(self) -> ResultsSettings:
        if (self.queries or self.commands) and not self.url:
            raise ValueError("queries and commands need a server: set url to a Prometheus")
        return self
