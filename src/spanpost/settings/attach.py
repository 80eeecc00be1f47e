"""Settings of the room `attach`."""

from __future__ import annotations

from pydantic import Field

from spanpost.settings.section import Section


class AttachSettings(Section):
    """How an agent's process is joined: by `attach()`, and when OpenTelemetry loads spanpost by itself."""

    enabled: bool = Field(
        default=True, description="`false` switches spanpost off: it is installed and attached, and does nothing at all."
    )
    flush_on_sigterm: bool = Field(
        default=False,
        description="Flush at SIGTERM, then let the handler that was there go on. Without it a process that has no handler "
        "dies of the signal at once, with what was queued.",
    )
