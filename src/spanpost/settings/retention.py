"""Settings of the section `retention`: how long rows are kept, and where their archives are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic import Field, field_validator, model_validator

from spanpost.model.retention import SHORTEST, KeptFor, RetentionRules, TenantKeptFor
from spanpost.settings.section import Duration, Section, expanded

#: Kinds of rows whose retention is not below `SHORTEST` unless `allow_short` says so.
_LOGS: Final = ("audit_rows", "tasks", "interventions")
_LEAST: Final = timedelta(hours=1)


class TenantRetentionSettings(Section, TenantKeptFor):
    """Differences for one tenant."""

    audit_rows: Duration | None = Field(default=None, ge=_LEAST, description="`audit_rows` of this tenant.")
    tasks: Duration | None = Field(default=None, ge=_LEAST, description="`tasks` of this tenant.")
    artifacts: Duration | None = Field(default=None, ge=_LEAST, description="`artifacts` of this tenant.")
    interventions: Duration | None = Field(default=None, ge=_LEAST, description="`interventions` of this tenant.")
    evaluations: Duration | None = Field(default=None, ge=_LEAST, description="`evaluations` of this tenant.")
    deliveries: Duration | None = Field(default=None, ge=_LEAST, description="`deliveries` of this tenant.")
    operations: Duration | None = Field(default=None, ge=_LEAST, description="`operations` of this tenant.")


class RetentionSettings(Section, RetentionRules):
    """How long rows stay in the database, and where their archives are. See docs/how-to/keep-and-archive.md."""

    enabled: bool = Field(
        default=True, description="Let the gateway do this by itself. `spanpost archive run` does it by hand."
    )
    interval: Duration = Field(
        default=timedelta(days=1), ge=timedelta(minutes=1), description="Time between two runs of the gateway."
    )
    directory: Path | None = Field(
        default=None,
        description="Directory of the archives: an absolute path, mode 0700, on a disk that is backed up. Not given: "
        "no rows leave the tables, except the records that only place late telemetry.",
    )
    audit_rows: Duration = Field(
        default=KeptFor.audit_rows,
        ge=_LEAST,
        description="How long audit rows and quarantined observations stay in the database.",
    )
    tasks: Duration = Field(
        default=KeptFor.tasks,
        ge=_LEAST,
        description="The same for tasks with their checkpoints and usage, after their last change.",
    )
    artifacts: Duration = Field(default=KeptFor.artifacts, ge=_LEAST, description="The same for artifacts.")
    interventions: Duration = Field(
        default=KeptFor.interventions,
        ge=_LEAST,
        description="The same for interventions, approvals and standing approvals.",
    )
    evaluations: Duration = Field(default=KeptFor.evaluations, ge=_LEAST, description="The same for evaluations.")
    deliveries: Duration = Field(
        default=KeptFor.deliveries, ge=_LEAST, description="The same for deliveries that arrived."
    )
    operations: Duration = Field(
        default=KeptFor.operations,
        ge=_LEAST,
        description="The same for alerts, launch orders, sums of budgets and refusals of model providers.",
    )
    placement: Duration = Field(
        default=RetentionRules.placement,
        ge=timedelta(hours=1),
        description="How long the records that place late telemetry stay after a trace is over. Telemetry that comes "
        "later is kept as audit rows of its task and changes no figures.",
    )
    rows_per_file: int = Field(
        default=RetentionRules.rows_per_file, ge=1, le=5_000_000, description="Maximum number of rows of one file."
    )
    files_per_run: int = Field(
        default=RetentionRules.files_per_run,
        ge=1,
        le=100_000,
        description="Maximum number of months, each of one tenant and table, that one run archives.",
    )
    share: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="Share of the time in which a run of the gateway works. It rests in between, so that recording "
        "keeps the database's processors. `spanpost archive run` never rests.",
    )
    allow_short: bool = Field(
        default=False,
        description="Accept less than 183 days for audit rows, tasks and interventions, although logs of some AI "
        "systems have to be kept for six months.",
    )
    tenants: dict[str, TenantRetentionSettings] = Field(
        default={}, description='Settings of single tenants: `{"acme" = {audit_rows = "P365D"}}`.'
    )

    _expand = field_validator("directory")(expanded)

    @field_validator("directory")
    @classmethod
    def _is_absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("give an absolute path: the gateway may run in any directory")
        return value

    @model_validator(mode="after")
    def _is_long_enough(self) -> RetentionSettings:
        if self.allow_short:
            return self
        given: dict[str, Mapping[str, timedelta | None]] = {"": self.by_kind}
        given |= {f"tenants.{name}.": own.by_kind for name, own in self.tenants.items()}
        for where, times in given.items():
            for kind in _LOGS:
                value = times[kind]
                if value is not None and value < SHORTEST:
                    raise ValueError(
                        f"{where}{kind}: less than {SHORTEST.days} days; set allow_short = true if that is meant"
                    )
        return self
