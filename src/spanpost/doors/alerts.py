"""Alerts that come home: kept, told by letters, counted."""

from __future__ import annotations

from collections.abc import Sequence

from spanpost.domain.alerts import Alert
from spanpost.doors import Door, House
from spanpost.fold.alerts import again
from spanpost.intake.alerts import AlertsHttp, take_each


def doors(house: House) -> list[Door]:
    """Open ``/alerts/``."""
    pipeline = house.pipeline

    async def take(alerts: Sequence[Alert], /, until: float) -> Sequence[bool]:
        known = await pipeline.ledger.alerts([alert.id for alert in alerts])

        async def one(alert: Alert) -> bool:
            before = known.get(alert.id)
            if before is not None and again(before, alert) is None:
                return False  # most of what is sent again: it costs one query for all
            taken = await pipeline.ledger.take_alert(alert)
            pipeline.take(taken.recorded)
            return not taken.is_repeat

        return await take_each(alerts, one, until)

    application = AlertsHttp(
        take,
        house.doorkeeper,
        keep=getattr(pipeline.ledger, "keep_body", None),
        watch=pipeline.metrics,
        base=str(getattr(house.settings.sinks.get("grafana"), "url", "") or ""),
    )
    return [Door(routes=application.routes)]
