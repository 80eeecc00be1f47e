"""Alerts: stored, delivered, counted."""

from __future__ import annotations

from collections.abc import Sequence

from spanpost.model.alerts import Alert
from spanpost.readers.alerts import again
from spanpost.receivers.alerts_http import AlertsHttp, take_each
from spanpost.runtime.endpoints import Endpoint, EndpointContext


def endpoints(context: EndpointContext) -> list[Endpoint]:
    """Return ``/alerts/``."""
    pipeline = context.pipeline
    kept = pipeline.store.alerts

    async def take(alerts: Sequence[Alert], /, until: float) -> Sequence[bool]:
        known = await kept.known([alert.id for alert in alerts])

        async def one(alert: Alert) -> bool:
            before = known.get(alert.id)
            if before is not None and again(before, alert) is None:
                return False  # most repeats: one query covers all of them
            taken = await kept.take(alert)
            pipeline.components.take(taken.recorded)
            return not taken.is_repeat

        return await take_each(alerts, one, until)

    application = AlertsHttp(
        take,
        context.sender_tokens,
        keep=getattr(pipeline.store, "keep_body", None),
        watch=pipeline.metrics,
        base=str(getattr(context.settings.sinks.get("grafana"), "url", "") or ""),
    )
    return [Endpoint(routes=application.routes)]
