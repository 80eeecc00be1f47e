"""The contract of a sink's plugin: what the entry point group ``spanpost.sinks`` leads to. docs/reference/sink-plugins.md is its page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, Literal, TypeVar

from pydantic import Field

from spanpost.plugins import Duration as Duration
from spanpost.plugins import PluginSettings
from spanpost.sinks.base import Sink

GROUP: Final = "spanpost.sinks"


@dataclass(frozen=True, kw_only=True)
class RouteDefaults:
    """What a sink's own settings say for routes that do not."""

    mention: tuple[str, ...] = ()
    fallback: str = ""
    shows_content: bool = True
    is_dry: bool = False
    #: A code of `spanpost.text.locales`, where the sink speaks several languages.
    language: str = ""


class SinkSettings(PluginSettings):
    """What every sink can be told; a sink's own settings derive from it. Unknown names are refused.

    Secrets are `pydantic.SecretStr`; a validator's message holds no part of the value.
    """

    enabled: bool = Field(default=True, description="Use the sink. If any setting of it is set, it is on.")
    verbosity: Literal["live", "milestones", "final", "mute"] = Field(
        default="live", description="How much is posted if the route does not say."
    )
    interval: Duration | None = Field(
        default=None,
        ge=timedelta(0),
        description="Minimum time between two milestones of one task, if the route does not say. Not given: 30 s if the "
        "verbosity is `milestones`, else none.",
    )

    def route_defaults(self) -> RouteDefaults:
        """Return what holds where a route does not say it."""
        return RouteDefaults()

    def tenant_of(self, address: str) -> str | None:
        """Return whose tasks alone may be told at an address; None: anybody's. Raises ValueError for one that routes may not name."""
        return None


S = TypeVar("S", bound=SinkSettings)


@dataclass(frozen=True, kw_only=True)
class SinkPlugin(Generic[S]):
    """A kind of sink, as a value. Its module is imported once anything of the sink is set, and must be cheap to import."""

    #: Of the entry point, the sink, the room in ``spanpost.toml`` and the variables: ``SPANPOST_<NAME>__<FIELD>``.
    name: str
    settings: type[S]
    #: Makes the sink, outside any event loop, once per process. Does no network I/O. Raises `ConfigError` with the next step.
    open: Callable[[S], Sink]
    #: It can show news anew that it has shown (`Delivery.receipt`): a question with its decision, an error with a counter.
    edits_news: bool = False
    #: It can show one message for many tasks (`Delivery.summary`): digests and boards.
    summarises: bool = False
