"""Contract of a sink plugin: the entry point group ``spanpost.sinks``. Its page is docs/reference/sink-plugins.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, Literal, TypeVar

from pydantic import Field

from spanpost.plugins import Duration as Duration
from spanpost.plugins import PluginSettings
from spanpost.sinks.base import Sink
from spanpost.sinks.redaction import SinkRule

GROUP: Final = "spanpost.sinks"


class SinkSettings(PluginSettings):
    """Settings of every sink; a sink's own settings derive from it. Unknown names are refused.

    Settings that a route has too (`mention`, `fallback`, `content`, `language`, `dry_run`) count for routes
    that leave them out.

    Secrets are `pydantic.SecretStr`; a validator's message holds no part of the value.
    """

    enabled: bool = Field(default=True, description="Use the sink. If any setting of it is set, it is on.")
    verbosity: Literal["live", "milestones", "final", "mute"] = Field(
        default="live", description="How much is posted if the route does not say."
    )
    interval: Duration | None = Field(
        default=None,
        ge=timedelta(0),
        description="Minimum time between two milestones of one task, if the route does not say. Not given: "
        "30 s if the verbosity is `milestones`, else none.",
    )
    redact: tuple[SinkRule, ...] = Field(
        default=(),
        max_length=50,
        description="Text that the sink hides, besides secrets: patterns, or rules with `pattern`, `attributes`, "
        "`parts` and `action`. Routes may hide more. The rows do not change.",
    )

    @property
    def is_on(self) -> bool:
        """True if the sink is used. One may have settings that only others read."""
        return self.enabled

    @property
    def kept(self) -> frozenset[str]:
        """Names of the attributes that tasks must keep for the sink."""
        return frozenset()

    def tenant_of(self, address: str) -> str | None:
        """Return the only tenant whose tasks may go to an address; None: any.

        Raises ValueError for an invalid address.
        """
        return None


S = TypeVar("S", bound=SinkSettings)


@dataclass(frozen=True, kw_only=True)
class SinkPlugin(Generic[S]):
    """A kind of sink, as a value. Its module is imported when the sink is configured, and must be cheap to import."""

    #: Name of the entry point, the sink, the section in ``spanpost.toml`` and the variables:
    #: ``SPANPOST_<NAME>__<FIELD>``.
    name: str
    settings: type[S]
    #: Creates the sink, outside any event loop, once per process. Does no network I/O. Raises `ConfigError`
    #: with a cure.
    open: Callable[[S], Sink]
    #: It can edit a checkpoint that it has shown (`Delivery.receipt`): a question's decision, an error's
    #: counter.
    edits_checkpoints: bool = False
    #: It applies `redact` itself, because it says of a question that a part is hidden there.
    redacts: bool = False
    #: It can show one message for many tasks (`Delivery.summary`): digests and boards.
    summarises: bool = False
