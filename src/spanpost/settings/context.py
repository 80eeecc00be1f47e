"""Settings of the section `context`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, field_validator

from spanpost.settings.section import Duration, Section, are_ascending
from spanpost.tasks.context import ContextRules

Share = Annotated[float, Field(gt=0, lt=1)]


class ContextSettings(Section, ContextRules):
    """When to warn about a context window that fills."""

    warn_at: tuple[Share, ...] = Field(
        default=ContextRules.warn_at, description="Shares of the window at which to warn, ascending; `[]` for none."
    )
    warn_tokens: tuple[Annotated[int, Field(ge=1000)], ...] = Field(
        default=(),
        description="Tokens in use at which to warn as well, whatever the size of the window, ascending: `[150000]`.",
    )
    ahead_calls: int = Field(
        default=ContextRules.ahead_calls,
        ge=0,
        description="Warn ahead when the largest share or number of tokens is forecast to be reached within this "
        "number of model calls; 0: never.",
    )
    ahead: Duration = Field(
        default=ContextRules.ahead,
        ge=timedelta(0),
        description="Warn ahead when the largest share or number of tokens is forecast to be reached within this time; "
        "0: never.",
    )
    windows: dict[str, Annotated[int, Field(gt=0)]] = Field(
        default={}, description='Window in tokens by model name; overrides the built-in table: `{"my-model": 32000}`.'
    )
    default_window: int | None = Field(
        default=None, gt=0, description="Window in tokens of unknown models. Not given: no warnings for them."
    )

    _ascending = field_validator("warn_at", "warn_tokens")(are_ascending)
