"""Settings of the section `attach`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spanpost.settings.section import Section


class AttachSettings(Section):
    """How spanpost attaches to an agent's process: by `attach()`, or loaded by OpenTelemetry."""

    enabled: bool = Field(
        default=True, description="`false` turns spanpost off: it does nothing, although it is installed and attached."
    )
    flush_on_sigterm: bool = Field(
        default=False,
        description="Flush at SIGTERM, then run the previous handler. Without it, a process that has no handler ends "
        "at once and drops its queue.",
    )
    unsampled_spans: Literal["agents", "all", "none"] = Field(
        default="agents",
        description="Spans that spanpost records although the application's sampler drops them. They stay "
        "unsampled, so the application's exporters leave them out. `agents`: those that may be an agent's. "
        "`none`: a task that is not sampled is not followed; its spans are counted as `unsampled`.",
    )
