"""Alerts of a webhook: read from its body, and recorded at the task that they name.

Rules. An alert is known by tenant, fingerprint and start; a repeat changes nothing, except that it is over.
It is recorded at the task that it names (`wanted`), in that task's thread; else it is a task of its own, of
the type ``alert``: a message that begins when it fires and ends when it is over. Its place is decided once.

The record is an observation like any other: on the task's root span, which no sender can make
(`Part.INTERVENTION`), or a span of the alert's own trace. So an agent that is started for the alert, in its
trace, works in its thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final
from urllib.parse import urljoin
from uuid import UUID

import msgspec

from spanpost import semconv as c
from spanpost.model.alerts import Alert
from spanpost.model.ids import named
from spanpost.model.observations import Observation, Origin, Part, Status, log_index, nanoseconds
from spanpost.model.tasks import Task
from spanpost.text.repair import mend_text

ALERTMANAGER: Final = "alertmanager"
GRAFANA: Final = "grafana"
#: Names of labels, then of annotations, that identify a task.
NAMES: Final = ("task_id", "trace_id")
#: An annotation with the status of the one task of the label `agent` that the alert is about.
STATE: Final = "task_status"
#: Greatest age of a monitor's data: a gauge is set, scraped and evaluated at intervals.
LAG: Final = timedelta(minutes=2)
#: Longest time between a task's begin and the alert, if the task has left the alert's state since.
FAR: Final = timedelta(hours=6)
#: Label values of our metrics for an unknown agent or environment, or one too many.
_NOBODY: Final = frozenset({"", "unknown", "other"})
#: Bounds: characters of a text, and number of labels or annotations.
_LONG: Final = 4_000
_MANY: Final = 100
#: Names of links, by the annotation or field that holds one.
_LINKS: Final = (
    ("Runbook", ("runbook_url", "runbook")),
    ("Dashboard", ("dashboard_url", "dashboardURL", "dashboard")),
    ("Panel", ("panelURL",)),
    ("Query", ("generatorURL",)),
    ("Silence", ("silenceURL",)),
)
_HTTP: Final = re.compile(r"https?://[^\s/]", re.IGNORECASE)


class Unreadable(ValueError):
    """The body is no alert: names the field and the fault."""


def alerts_of(body: object) -> list[object]:
    """Return the entries of a webhook's body, each to be read by `read`. Raises `Unreadable`."""
    if not isinstance(body, dict):
        raise Unreadable("the body is no JSON object")
    listed = body.get("alerts")
    if not isinstance(listed, list):
        raise Unreadable("alerts: it must be a list, as Alertmanager's webhook (version 4) and Grafana's have it")
    return listed


def sender_of(body: object) -> str:
    """Return the sender's own address, as a webhook's body says; empty where it says none."""
    said = body.get("externalURL") if isinstance(body, dict) else None
    return _text(said)[:2000] if isinstance(said, str) else ""


def read(given: object, source: str, tenant: str, *, base: str = "", external_url: str = "") -> Alert:
    """Return one alert of a webhook's body.

    `base` is the host of links without one (Grafana), `external_url` the sender's address. Raises
    `Unreadable`.
    """
    if not isinstance(given, dict):
        raise Unreadable("it is no JSON object")
    state = given.get("status")
    if state not in (c.FIRING, c.RESOLVED):
        raise Unreadable(f"status: firing or resolved, not {str(state)[:40]!r}")
    starts_at = _moment(given.get("startsAt"))
    if starts_at is None:
        raise Unreadable("startsAt: it is no time (RFC 3339)")
    labels, annotations = _texts(given.get("labels")), _texts(given.get("annotations"))
    fingerprint = given.get("fingerprint")
    if not isinstance(fingerprint, str) or not fingerprint:
        if not labels:
            raise Unreadable("fingerprint: there is none, and no labels that it could be made of")
        fingerprint = blake2b(repr(sorted(labels.items())).encode("utf-8", "replace"), digest_size=8).hexdigest()
    fingerprint = _text(fingerprint)[:200]
    ends_at = (_moment(given.get("endsAt")) or starts_at) if state == c.RESOLVED else None
    links = dict(_links({**annotations, **{k: v for k, v in given.items() if isinstance(v, str)}}, base))
    return Alert(
        id=UUID(bytes=named(f"{tenant}\0alert\0{fingerprint}\0{starts_at.timestamp():.6f}")),
        tenant=tenant,
        source=source,
        fingerprint=fingerprint,
        starts_at=starts_at,
        ends_at=max(ends_at, starts_at) if ends_at is not None else None,
        name=labels.get("alertname") or "alert",
        severity=labels.get("severity", "")[:60],
        summary=annotations.get("summary") or annotations.get("message") or annotations.get("title") or "",
        description=annotations.get("description", ""),
        links=links,
        labels=labels,
        annotations=annotations,
        external_url=external_url,
    )


def _texts(given: object) -> dict[str, str]:
    if not isinstance(given, dict):
        return {}
    kept = (
        (_text(k)[:200], _text(str(v))[:_LONG])
        for k, v in list(given.items())[:_MANY]
        if isinstance(v, (str, int, float))
    )
    return {k: v for k, v in kept if k}


def _text(value: object) -> str:
    return mend_text(str(value))[0]


def _moment(given: object) -> datetime | None:
    if not isinstance(given, str):
        return None
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        return None
    # The end of a firing alert is the year 1.
    return at.astimezone(UTC) if at.tzinfo is not None and 1970 <= at.year < 2262 else None


def _links(given: Mapping[str, str], base: str) -> Iterator[tuple[str, str]]:
    for name, keys in _LINKS:
        for key in keys:
            url = given.get(key, "")
            if url.startswith("/") and base:
                url = urljoin(base.rstrip("/") + "/", url.lstrip("/"))
            if _HTTP.match(url) and len(url) <= 2000:
                yield name, _text(url)
                break


# --- where it belongs -----------------------------------------------------------------------------------------------


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The task that an alert names."""

    #: Ids of a task or of a trace; the first that is known wins.
    refs: tuple[str, ...] = ()
    #: Without any: agent, environment (empty: any) and status of the task, where exactly one matches. Where
    #: none has that status any more, the only one that was running when the alert began: alerts are seconds
    #: or minutes late.
    agent: str = ""
    environment: str = ""
    status: str = ""
    #: When the alert began.
    at: datetime

    @property
    def under_way(self) -> tuple[datetime, datetime, datetime]:
        """Limits for a task that was running then: earliest and latest start, and the earliest end if it has ended."""
        return self.at - FAR, self.at, self.at - LAG

    def was_under_way(self, task: Task) -> bool:
        """Return whether a task was running when the alert began."""
        earliest, latest, end = self.under_way
        began, ended = task.started_at, task.ended_at
        return began is not None and earliest <= began <= latest and (ended is None or ended >= end)


def wanted(alert: Alert) -> Wanted:
    """Return the task that an alert names: by an id in its labels or annotations, or by agent and status."""
    refs = [
        where[name].strip()
        for where in (alert.labels, alert.annotations)
        for name in NAMES
        if where.get(name, "").strip()
    ]
    agent, status = alert.labels.get("agent", ""), alert.annotations.get(STATE, "")
    if agent in _NOBODY or status not in c.STATUSES:
        agent = status = ""
    environment = alert.labels.get("environment", "")
    return Wanted(
        refs=tuple(dict.fromkeys(refs)),
        agent=agent,
        environment=environment if environment not in _NOBODY else "",
        status=status,
        at=alert.starts_at,
    )


def placed(alert: Alert, task: Task | None) -> Alert:
    """Return an alert with its place: a task's root span, or a span of its own."""
    if task is not None and task.trace_id and task.span_id:
        return msgspec.structs.replace(alert, trace_id=task.trace_id, span_id=task.span_id)
    return msgspec.structs.replace(alert, trace_id=alert.id.bytes, span_id=named(f"span\0{alert.id}")[:8])


def again(known: Alert, alert: Alert) -> Alert | None:
    """Return the stored alert after a repeat; None where the repeat changes nothing."""
    if known.is_resolved or not alert.is_resolved:
        return None
    kept = {name: getattr(known, name) for name in _KEPT}
    return msgspec.structs.replace(alert, **kept)


#: Fields that no webhook says.
_KEPT: Final = ("trace_id", "span_id", "acknowledged_by", "acknowledged_at", "silence")


def change_of(alert: Alert, state: str, by: str, now: datetime) -> Observation:
    """Return the record of a person's act on an alert: `state` is one of `CHANGES`."""
    said = {
        c.ALERT_ID: str(alert.id),
        c.ALERT_STATE: state,
        c.ALERT_NAME: alert.name,
        c.ALERT_SUMMARY: alert.summary,
        c.ALERT_BY: by,
    }
    record = Observation(
        part=Part.INTERVENTION,
        trace_id=alert.trace_id,
        span_id=alert.span_id,
        tenant=alert.tenant,
        name=c.EVENT_ALERT,
        at_ns=nanoseconds(now),
        attributes={key: value for key, value in said.items() if value},
    )
    return msgspec.structs.replace(record, index=log_index(record))


def record_of(alert: Alert, now: datetime) -> Observation:
    """Return the record of a placed alert."""
    at_ns = nanoseconds(now)
    if not alert.is_own:
        said = {
            c.ALERT_ID: str(alert.id),
            c.ALERT_STATE: c.RESOLVED if alert.is_resolved else c.FIRING,
            c.ALERT_NAME: alert.name,
            c.ALERT_SEVERITY: alert.severity,
            c.ALERT_SUMMARY: alert.summary,
            c.ALERT_DESCRIPTION: alert.description,
        }
        record = Observation(
            part=Part.INTERVENTION,
            trace_id=alert.trace_id,
            span_id=alert.span_id,
            tenant=alert.tenant,
            name=c.EVENT_ALERT,
            at_ns=at_ns,
            attributes={key: value for key, value in said.items() if value},
        )
        return msgspec.structs.replace(record, index=log_index(record))
    starts_ns = nanoseconds(alert.starts_at)
    said = {
        c.TASK_ID: f"alert-{alert.fingerprint}-{int(alert.starts_at.timestamp())}",
        c.TASK_NAME: alert.name,
        c.TASK_TYPE: c.ALERT,
        c.STATUS: c.COMPLETE if alert.is_resolved else c.WAITING,
        c.ACTION: alert.summary,
        c.TOPIC: alert.labels.get("topic", ""),
    }
    said |= {f"{c.LINK_PREFIX}{name}": url for name, url in alert.links.items()}
    # Attributes that routes may match on.
    said |= {c.ALERT_SEVERITY: alert.severity} | {f"alert.label.{name}": value for name, value in alert.labels.items()}
    where = alert.labels.get("environment", "")
    ends_ns = nanoseconds(alert.ends_at) if alert.ends_at is not None else 0
    return Observation(
        part=Part.ENDED if alert.is_resolved else Part.STARTED,
        trace_id=alert.trace_id,
        span_id=alert.span_id,
        tenant=alert.tenant,
        name=alert.name[:200],
        at_ns=ends_ns or starts_ns,
        start_ns=starts_ns,
        end_ns=ends_ns,
        status=Status.OK if alert.is_resolved else Status.UNSET,
        attributes={key: value for key, value in said.items() if value},
        origin=Origin(resource={"deployment.environment.name": where} if where else {}, scope="spanpost.alerts"),
    )


# --- in words -------------------------------------------------------------------------------------------------------

_GRAVE: Final = frozenset({"critical", "error", "page", "fatal", "emergency", "high", "p0", "p1", "sev0", "sev1"})
_MILD: Final = frozenset({"info", "information", "none", "notice", "low", "debug", "p3", "p4", "p5", "sev3", "sev4"})


def severity_of(severity: str) -> str:
    """Return the severity of a rule's own word: critical, warning or info."""
    word = severity.strip().lower()
    return "critical" if word in _GRAVE else "info" if word in _MILD else "warning"


#: States of the records of people's acts on an alert.
CHANGES: Final = {
    "acknowledged": "Acknowledged by {by}",
    "silenced": "Silenced by {by}",
    "unsilenced": "No longer silenced, by {by}",
    "not_silenced": "Not silenced, as {by} asked",
    "not_unsilenced": "Still silenced, although {by} asked",
}


def line(state: str, severity: str, name: str, summary: str, by: str = "") -> str:
    """Return an alert, or a person's act on it, as one line."""
    head = "Resolved" if state == c.RESOLVED else (severity or "alert").capitalize()
    if state in CHANGES:
        head = CHANGES[state].format(by=by or "somebody")
    said = f"{name}: {summary}" if summary and summary != name else name
    return f"{head} · {said}"
