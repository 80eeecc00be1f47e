"""Settings of the section `limits`: what one tenant may send, have open and store."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import Field, model_validator

from spanpost.model.tenant_limits import OwnTenantLimits, TenantLimitRules
from spanpost.settings.section import Duration, Section

#: A smaller limit of storage is a mistake: a thousand spans need a megabyte.
_LEAST_STORED: Final = 10_000_000


class TenantLimitSettings(Section, OwnTenantLimits):
    """Differences for one tenant; 0 is no limit."""

    entries_per_second: int | None = Field(default=None, ge=0, description="`entries_per_second` of this tenant.")
    burst: int | None = Field(default=None, ge=0, description="`burst` of this tenant.")
    open_tasks: int | None = Field(default=None, ge=0, description="`open_tasks` of this tenant.")
    stored_bytes: int | None = Field(default=None, ge=0, description="`stored_bytes` of this tenant.")


class LimitSettings(Section, TenantLimitRules):
    """What a gateway takes of one tenant. A request beyond it is answered 503. See docs/how-to/tenants.md."""

    entries_per_second: int = Field(
        default=0,
        ge=0,
        description="Spans, log records and data points that a tenant may send in a second, to each process of a "
        "gateway; 0: no limit.",
    )
    burst: int = Field(
        default=0,
        ge=0,
        description="Number of them that may come at once after a pause; 0: those of ten seconds.",
    )
    open_tasks: int = Field(
        default=0,
        ge=0,
        description="Maximum number of open tasks of a tenant; 0: no limit. A task without telemetry for a day does "
        "not count.",
    )
    stored_bytes: int = Field(
        default=0,
        ge=0,
        description="Maximum bytes of a tenant in the database, with indexes; beyond it, its telemetry is refused. "
        "0: no limit.",
    )
    measure_interval: Duration = Field(
        default=timedelta(minutes=5),
        ge=timedelta(seconds=1),
        description="Time between two measurements of what each tenant has stored. One gateway of a database measures.",
    )
    tenants: dict[str, TenantLimitSettings] = Field(
        default={}, description='Limits of single tenants: `{"acme" = {entries_per_second = 500}}`.'
    )

    @model_validator(mode="after")
    def _can_be_kept(self) -> LimitSettings:
        for name, own in (("", self), *((f"tenants.{name}.", self.of(name)) for name in self.tenants)):
            if own.burst and not own.entries_per_second:
                raise ValueError(f"{name}burst: it limits nothing without entries_per_second; set both")
            if 0 < own.stored_bytes < _LEAST_STORED:
                raise ValueError(
                    f"{name}stored_bytes: {own.stored_bytes} bytes are reached within minutes; give at least "
                    f"{_LEAST_STORED}"
                )
        return self
