"""The part of a store that keeps alerts, as a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from spanpost.model.alerts import Alert, Alerted, Silence, SilenceFailure
from spanpost.model.interventions import Intervention, Verdict


class Alerts(Protocol):
    """**Protocol:** keeps the alerts of monitors."""

    async def known(self, ids: Sequence[UUID]) -> dict[UUID, Alert]:
        """**Protocol:** return the recorded alerts among `ids`."""
        ...

    async def take(self, alert: Alert) -> Alerted:
        """**Protocol:** record an alert and its checkpoint, in one transaction. Safe to repeat."""
        ...

    async def listed(self, tenant: str, is_firing: bool | None, limit: int) -> list[Alert]:
        """**Protocol:** return a tenant's alerts, newest first; all of them where `is_firing` is None."""
        ...

    async def intervene(self, act: Intervention) -> Verdict:
        """**Protocol:** record a person's act on an alert, in one transaction (`tasks.alert_acts`).

        A silence is only asked for: `conclude` records its outcome.
        """
        ...

    async def conclude(
        self, id: UUID, asked: Silence, silence_id: str, failure: SilenceFailure | None, by: str
    ) -> Alerted | None:
        """**Protocol:** record the outcome of a silence; None if something else was asked since."""
        ...
