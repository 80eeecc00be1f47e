"""How long rows are kept, and where they go then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

DAY: Final = timedelta(days=1)
#: Regulation (EU) 2024/1689, Articles 19 and 26(6): at least six months.
SHORTEST: Final = 183 * DAY


@dataclass(frozen=True, kw_only=True)
class KeptFor:
    """How long rows stay in the tables, by kind. A month is archived when all of it is older."""

    audit_rows: timedelta = SHORTEST
    tasks: timedelta = 730 * DAY
    artifacts: timedelta = 730 * DAY
    interventions: timedelta = 730 * DAY
    evaluations: timedelta = 730 * DAY
    deliveries: timedelta = 90 * DAY
    operations: timedelta = 730 * DAY

    @property
    def by_kind(self) -> dict[str, timedelta]:
        """The times by kind of row."""
        return {
            "audit_rows": self.audit_rows,
            "tasks": self.tasks,
            "artifacts": self.artifacts,
            "interventions": self.interventions,
            "evaluations": self.evaluations,
            "deliveries": self.deliveries,
            "operations": self.operations,
        }


@dataclass(frozen=True, kw_only=True)
class TenantKeptFor:
    """The same for one tenant; None is the general time."""

    audit_rows: timedelta | None = None
    tasks: timedelta | None = None
    artifacts: timedelta | None = None
    interventions: timedelta | None = None
    evaluations: timedelta | None = None
    deliveries: timedelta | None = None
    operations: timedelta | None = None

    @property
    def by_kind(self) -> dict[str, timedelta | None]:
        """The times by kind of row."""
        return {
            "audit_rows": self.audit_rows,
            "tasks": self.tasks,
            "artifacts": self.artifacts,
            "interventions": self.interventions,
            "evaluations": self.evaluations,
            "deliveries": self.deliveries,
            "operations": self.operations,
        }


@dataclass(frozen=True, kw_only=True)
class RetentionRules(KeptFor):
    """How long rows are kept, and where they go then."""

    #: Directory of the archives; None: no rows leave the tables.
    directory: Path | None = None
    #: How long the records that place late telemetry stay after a trace is over.
    placement: timedelta = 90 * DAY
    #: Most rows of one file, and of one transaction that deletes.
    rows_per_file: int = 500_000
    #: Most files of one run; the next run goes on.
    files_per_run: int = 100
    #: Share of the time in which a run works.
    share: float = 1.0
    tenants: Mapping[str, TenantKeptFor] = field(default_factory=dict)

    def kept_for(self, kind: str, tenant: str) -> timedelta:
        """Return how long rows of a kind are kept for a tenant."""
        own = self.tenants.get(tenant)
        return (own.by_kind[kind] if own is not None else None) or self.by_kind[kind]
