"""Health of each component: one line each, from the figures that the metrics show.

No component keeps books for this page. Nothing here names a tenant, an address or a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from spanpost.model.fleet import Fleet

if TYPE_CHECKING:
    from spanpost.settings import Settings

#: `late`: it works, and is behind or has given something up. `unknown`: the database does not say.
State: TypeAlias = Literal["ok", "late", "down", "unknown"]
#: Samples of the metrics by name and value of their first label.
Samples: TypeAlias = Mapping[str, Mapping[str, float]]
LAST_SUCCESS: Final = "spanpost_deliveries_last_success_timestamp_seconds"
KAFKA_UP: Final = "spanpost_kafka_up"
KAFKA_LAG: Final = "spanpost_kafka_lag_seconds"
REFUSED: Final = "spanpost_tenant_refused_total"
SAMPLES: Final = frozenset({LAST_SUCCESS, KAFKA_UP, KAFKA_LAG, REFUSED})
#: A delivery or message older than this, and rows unsealed or beyond their retention for longer, are late. Seconds.
_LATE: Final = 300.0
_LATE_RETENTION: Final = 86_400.0


class ComponentHealth(msgspec.Struct, frozen=True, kw_only=True):
    """State of a component, since when, and its figures in words."""

    name: str
    state: State
    #: Of trouble: when it began; else, and of a sink, of what went well last. None: not known.
    since: datetime | None = None
    detail: str = ""


def components(
    settings: Settings, fleet: Fleet | None, samples: Samples, trouble: str = "", since: datetime | None = None
) -> list[ComponentHealth]:
    """Return the state of every component that is in use. `fleet` is None while the database cannot be read.

    `trouble` is why the database takes nothing now, `since` when that or its absence began.
    """
    is_embedded = not settings.dsn and settings.database.embedded
    names = ["database", "embedded server"] if is_embedded else ["database"]
    state: State = "down" if trouble or fleet is None else "ok"
    found = [ComponentHealth(name=name, state=state, since=since) for name in names]
    if fleet is None:
        unknown = ["outbox", *_sinks(settings)]
        unknown += [name for name in ("sealing", "retention") if getattr(settings, name).enabled]
        found += [ComponentHealth(name=name, state="unknown") for name in unknown]
    else:
        found += [*of_fleet(fleet), *_of_sinks(settings, fleet, samples)]
    found += _kafka(samples)
    if settings.limits.model_fields_set:
        refused = sum(samples.get(REFUSED, {}).values())
        found.append(ComponentHealth(name="limits", state="ok", detail=f"{refused:.0f} requests refused"))
    return found


def of_fleet(fleet: Fleet) -> Iterator[ComponentHealth]:
    """Return the state of what works on the database: outbox, circuits, quarantine, sealing, retention."""
    now = datetime.now(UTC)
    waiting, dead = (sum(getattr(each, name) for each in fleet.deliveries) for name in ("waiting", "dead"))
    oldest = max((each.oldest for each in fleet.deliveries), default=0.0)
    is_late = bool(dead) or oldest > _LATE
    yield ComponentHealth(
        name="outbox",
        state="late" if is_late else "ok",
        since=now - timedelta(seconds=oldest) if waiting and is_late else None,
        detail=f"{waiting} waiting, the oldest for {oldest:.0f} s; {dead} given up" if waiting or dead else "empty",
    )
    if fleet.closed_rate_limits:
        said = ", ".join(f"{n} {why}" for why, n in sorted(fleet.closed_rate_limits.items()))
        is_down = bool(fleet.closed_rate_limits.keys() - {"throttled"})
        yield ComponentHealth(name="circuit breakers", state="down" if is_down else "late", detail=f"open: {said}")
    if fleet.quarantined:
        said = ", ".join(f"{n} {why}" for why, n in sorted(fleet.quarantined.items()))
        yield ComponentHealth(name="quarantine", state="late", detail=said)
    if fleet.sealing is not None:
        lag = max(fleet.sealing.lag, *fleet.sealing.ways.values(), 0.0)
        yield ComponentHealth(
            name="sealing",
            state="late" if lag > _LATE_RETENTION or fleet.sealing.lag > _LATE else "ok",
            since=now - timedelta(seconds=fleet.sealing.lag),
            detail=f"{fleet.sealing.lag:.0f} s behind",
        )
    if fleet.retention is not None:
        overdue = fleet.retention.overdue
        yield ComponentHealth(
            name="retention",
            state="late" if overdue > _LATE_RETENTION else "ok",
            since=now - timedelta(seconds=fleet.retention.run_age),
            detail=f"rows are overdue for {overdue:.0f} s" if overdue else "no rows are overdue",
        )


def _sinks(settings: Settings) -> list[str]:
    return [f"sink {name}" for name, section in settings.sinks.items() if section.is_on]


def _of_sinks(settings: Settings, fleet: Fleet, samples: Samples) -> Iterator[ComponentHealth]:
    queues = {f"sink {each.sink}": each for each in fleet.deliveries}
    for name in _sinks(settings):
        queue = queues.get(name)
        sink = name.removeprefix("sink ")
        why = fleet.circuits.get(sink, "")
        is_late = queue is not None and bool(queue.dead or queue.oldest > _LATE)
        # The figure of this process, and the database's, which knows what others sent and what was before the start.
        here = samples.get(LAST_SUCCESS, {}).get(sink)
        known = [fleet.delivered_at[sink]] if sink in fleet.delivered_at else []
        last = max([*known, datetime.fromtimestamp(here, UTC)] if here else known, default=None)
        said = f"{queue.waiting} waiting, {queue.dead} given up" if queue is not None else "nothing waits"
        if why:
            said += f"; circuit breaker open: {why}" if why != "throttled" else "; it must wait: throttled"
        yield ComponentHealth(
            name=name,
            state="down" if why in ("refused", "failing") else "late" if why or is_late else "ok",
            since=last,
            detail=f"{said}; last success {last:%Y-%m-%d %H:%M:%S} UTC" if last else f"{said}; no success is known",
        )


def _kafka(samples: Samples) -> Iterator[ComponentHealth]:
    lags = samples.get(KAFKA_LAG, {})
    for topic in sorted({*samples.get(KAFKA_UP, {}), *lags}):
        lag, is_up = lags.get(topic, 0.0), samples.get(KAFKA_UP, {}).get(topic, 1.0) > 0
        state: State = "down" if not is_up else "late" if lag > _LATE else "ok"
        yield ComponentHealth(name=f"kafka {topic}", state=state, detail=f"{lag:.0f} s behind")
