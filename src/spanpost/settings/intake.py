"""Settings of the section `intake`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, field_validator

from spanpost.settings.section import Duration, Section, expanded


class IntakeSettings(Section):
    """How an agent's process is recorded."""

    tenant: str = Field(
        default="default",
        min_length=1,
        max_length=200,
        description="Tenant of the process's tasks in a shared database.",
    )
    queue_size: int = Field(
        default=65_536,
        ge=64,
        description="Maximum number of observations that wait in memory; more are dropped and counted.",
    )
    poll_interval: Duration = Field(
        default=timedelta(seconds=0.25),
        gt=timedelta(0),
        description="Interval at which open spans are checked for late attributes.",
    )
    heartbeat_interval: Duration = Field(
        default=timedelta(seconds=10),
        ge=timedelta(seconds=1),
        description="Interval of the heartbeats of a process with open spans.",
    )
    capture_content: bool = Field(
        default=False,
        description="Keep prompts, completions and tool arguments in the audit rows. The first lines of question "
        "and answer, redacted, are then part of the task, and everybody who may see the task sees them. In Slack they "
        "are shown only with `slack.content`.",
    )
    durable: bool = Field(
        default=False,
        description="Write telemetry to a file before the agent goes on, so that none is lost if the process is "
        "killed. Needs a database. It costs the agent's thread some microseconds per span, and the file holds prompts "
        "until they are recorded.",
    )
    spool_dir: Path | None = Field(
        default=None,
        description="Directory of those files, used by spanpost alone (mode 0700); setting it turns `durable` on. "
        "Default: the database's `data_dir` with `-spool` appended.",
    )
    spool_max_bytes: int = Field(
        default=1024**3,
        ge=65_536,
        description="Maximum size of that directory; when it is full, nothing is written until space is free again.",
    )

    _expand = field_validator("spool_dir")(expanded)
