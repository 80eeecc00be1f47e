"""Settings of the section `database`, and the directory of the embedded PostgreSQL."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from spanpost.settings.database_url import understood
from spanpost.settings.section import Section, expanded


class DatabaseSettings(Section):
    """Where the rows are kept."""

    url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL to use (`postgresql://user:password@host/name?sslmode=verify-full`, or `host=... "
        "dbname=...`). Of several hosts (`host1,host2`), the one that takes writes is used. `DATABASE_URL` is read "
        "too, if it names a PostgreSQL. Without either, `attach()` keeps no rows and the command line uses the "
        "embedded PostgreSQL.",
    )
    read_url: SecretStr | None = Field(
        default=None,
        description="The same database for `spanpost db query`, with a role that can only read (`spanpost db grant "
        "--reader`). Not given: `url` is used, unless its role may run programs on the server.",
    )
    embedded: bool = Field(
        default=False,
        description="Without a URL, use the embedded PostgreSQL in `attach()` too; the command line always does.",
    )
    pool_size: int = Field(default=4, ge=1, le=100, description="Maximum number of connections of one process.")
    batch_budget: timedelta = Field(
        default=timedelta(seconds=2),
        gt=timedelta(0),
        description="Processor time allowed for one transaction that records several traces. Beyond it, they are "
        "recorded one by one, and for ten minutes that tenant's telemetry is recorded apart from that of other "
        "tenants.",
    )
    trace_budget: timedelta = Field(
        default=timedelta(seconds=10),
        gt=timedelta(0),
        description="Processor time allowed for one transaction that records one trace. Beyond it, the batch's "
        "observations of that trace go to quarantine, and the answer asks the sender not to send them again.",
    )
    statement_cache: int = Field(
        default=100,
        ge=0,
        description="Maximum number of prepared statements per connection. spanpost keeps none behind a pooler that it "
        "recognises as pooling transactions; set 0 behind any other pooler of transactions.",
    )
    data_dir: Path = Field(
        default_factory=lambda: default_data_dir(),
        description="Directory of the embedded PostgreSQL. Default: `$XDG_DATA_HOME/spanpost` "
        "(`~/.local/share/spanpost`), as root `/var/lib/spanpost`.",
    )
    pg_bin: Path | None = Field(
        default=None, description="Directory of other PostgreSQL server binaries, e.g. `/usr/lib/postgresql/17/bin`."
    )

    @field_validator("url", "read_url", mode="before")
    @classmethod
    def _is_postgres(cls, value: object) -> object:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is None or text == "":
            return None
        return understood(text if isinstance(text, str) else "")

    _expand = field_validator("data_dir", "pg_bin")(expanded)


def default_data_dir() -> Path:
    """Return the default directory of the embedded PostgreSQL."""
    named = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(named):
        return Path(named) / "spanpost"
    # PostgreSQL never runs as root, and the user that it switches to cannot read root's home.
    if os.geteuid() == 0:
        return Path("/var/lib/spanpost")
    return Path(os.path.expanduser("~")) / ".local" / "share" / "spanpost"
