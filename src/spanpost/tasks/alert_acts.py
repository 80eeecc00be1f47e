"""Results of people's acts on alerts: the same rules for every store.

Rules. The first acknowledgement stands. An alert has one silence at a time: the second person learns who was
first. A silence is asked for in one transaction, set in Alertmanager, and its outcome recorded in another; if
no outcome comes within `STANDS`, the gateway was killed, and the silence may be asked for again. A failed one
may be asked for at once. Nothing is done to a resolved alert.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from spanpost.model.alerts import Alert, Silence, SilenceFailure, SilenceState
from spanpost.model.interventions import Intervention, Result, Verb, Verdict
from spanpost.model.observations import Observation
from spanpost.model.tasks import Task
from spanpost.readers import alerts
from spanpost.tasks.interventions import name_of

#: Time after which a request to Alertmanager without an outcome no longer stands; longer than its timeouts.
STANDS: Final = timedelta(seconds=45)
#: Longest silence.
LONGEST: Final = timedelta(days=30)
_CHANGES: Final = {
    SilenceState.ACTIVE: "silenced",
    SilenceState.ENDED: "unsilenced",
    SilenceState.FAILED: "not_silenced",
}


def judge(act: Intervention, alert: Alert | None, task: Task | None, now: datetime) -> Verdict:
    """Return the result of an act on an alert; `task` is the task that it is recorded at."""
    if alert is None or alert.tenant != act.tenant:
        return Verdict(result=Result.UNKNOWN)
    about = Verdict(
        result=Result.DONE,
        by=name_of(act.actor),
        task_uid=task.uid if task is not None else None,
        task_id=task.task_id if task is not None else "",
    )
    if act.refusal:
        return msgspec.structs.replace(about, result=Result.REFUSED, by="")
    if alert.is_resolved:
        return msgspec.structs.replace(about, result=Result.TOO_LATE, by="")
    standing = alert.silence
    if act.verb is Verb.ACKNOWLEDGE:
        if alert.acknowledged_by:
            return _decided(about, "acknowledged", alert.acknowledged_by, alert.acknowledged_at)
    elif act.verb is Verb.SILENCE:
        until = until_of(act)
        if until is None or not now < until <= now + LONGEST:
            return msgspec.structs.replace(about, result=Result.TOO_LATE, by="")
        if standing is not None and (standing.is_active(now) or _is_asked(standing, now)):
            return _decided(about, "silenced", standing.by, standing.asked_at)
    elif standing is None or not standing.is_set or _is_asked(standing, now):
        return _decided(about, "unsilenced", standing.by if standing is not None else "", None)
    return about


def _decided(about: Verdict, decision: str, by: str, at: datetime | None) -> Verdict:
    return msgspec.structs.replace(about, result=Result.DECIDED, decision=decision, by=by, decided_at=at)


def _is_asked(silence: Silence, now: datetime) -> bool:
    is_open = silence.state in (SilenceState.SETTING, SilenceState.ENDING)
    return is_open and now - silence.asked_at < STANDS


def until_of(act: Intervention) -> datetime | None:
    """Return the end of a silence that is asked for; None for a malformed one."""
    try:
        until = datetime.fromisoformat(act.parameters.get("until", ""))
    except ValueError:
        return None
    return until.astimezone(UTC) if until.tzinfo is not None else None


def after(act: Intervention, alert: Alert, now: datetime) -> Alert:
    """Return an alert after a granted act."""
    by = name_of(act.actor)
    if act.verb is Verb.ACKNOWLEDGE:
        return msgspec.structs.replace(alert, acknowledged_by=by, acknowledged_at=now)
    if act.verb is Verb.SILENCE:
        until = until_of(act)
        assert until is not None
        silence = Silence(state=SilenceState.SETTING, by=by, comment=act.text, until=until, asked_at=now)
    else:
        assert alert.silence is not None
        silence = msgspec.structs.replace(alert.silence, state=SilenceState.ENDING, asked_at=now, failure=None)
    return msgspec.structs.replace(alert, silence=silence)


def record(act: Intervention, alert: Alert, now: datetime) -> Observation | None:
    """Return the record of a granted act; None for a silence, whose outcome is recorded."""
    if act.verb is not Verb.ACKNOWLEDGE:
        return None
    return alerts.change_of(alert, "acknowledged", name_of(act.actor), now)


def concluded(
    alert: Alert, asked: Silence, id: str, failure: SilenceFailure | None, by: str, now: datetime
) -> tuple[Alert, Observation] | None:
    """Return an alert with the outcome of what was asked of Alertmanager, and its record.

    None: something else was asked since. A silence that could not be ended is still active.
    """
    standing = alert.silence
    if standing is None or (standing.state, standing.asked_at) != (asked.state, asked.asked_at):
        return None
    is_set = asked.state is SilenceState.SETTING
    if failure is not None:
        state = SilenceState.FAILED if is_set else SilenceState.ACTIVE
    else:
        state = SilenceState.ACTIVE if is_set else SilenceState.ENDED
    new = msgspec.structs.replace(standing, state=state, id=id or standing.id, failure=failure)
    change = "not_unsilenced" if failure is not None and not is_set else _CHANGES[state]
    return msgspec.structs.replace(alert, silence=new), alerts.change_of(alert, change, by, now)


def possible(alert: Alert, *, can_silence: bool) -> tuple[Verb, ...]:
    """Return the verbs that an alert's message offers.

    A silence that is over by itself is ended by `UNSILENCE` as well: the message does not change by itself.
    """
    if alert.is_resolved:
        return ()
    found = () if alert.acknowledged_by else (Verb.ACKNOWLEDGE,)
    if not can_silence:
        return found
    is_set = alert.silence is not None and alert.silence.is_set
    return (*found, Verb.UNSILENCE if is_set else Verb.SILENCE)
