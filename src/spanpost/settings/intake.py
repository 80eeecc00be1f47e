"""Settings of the room `intake`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, field_validator

from spanpost.settings.section import Duration, Section


class IntakeSettings(Section):
    """What is taken in from an agent's process."""

    tenant: str = Field(default="default", min_length=1, max_length=200, description="Whose tasks these are in a shared database.")
    queue_size: int = Field(
        default=65_536, ge=64, description="Observations that wait in memory at most; what comes on top is lost and counted."
    )
    poll_interval: Duration = Field(
        default=timedelta(seconds=0.25), gt=timedelta(0), description="How often open spans are looked at for late attributes."
    )
    heartbeat_interval: Duration = Field(
        default=timedelta(seconds=10),
        ge=timedelta(seconds=1),
        description="How often a process with open spans says that it lives.",
    )
    capture_content: bool = Field(default=False, description="Keep prompts, completions and tool arguments in the audit rows.")
    durable: bool = Field(
        default=False,
        description="Write what is told to a file before the agent goes on, so that a kill takes none of it. Needs a database. "
        "Costs the agent's thread some microseconds a span, and the file holds prompts until they are recorded.",
    )
    spool_dir: Path | None = Field(
        default=None,
        description="Directory of those files, ours alone (mode 0700); setting it turns `durable` on. By default beside the "
        "database's `data_dir`, with `-spool` at its end.",
    )
    spool_max_bytes: int = Field(
        default=1024**3, ge=65_536, description="Size of that directory at most; beyond it nothing is written until there is room."
    )

    @field_validator("spool_dir")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value else None
