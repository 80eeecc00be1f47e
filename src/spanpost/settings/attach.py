"""Settings of the section `attach`."""

from __future__ import annotations

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
