"""Acts of people on alerts: acknowledged in the store, silenced in Alertmanager.

A silence is recorded as asked for before Alertmanager is called, and its outcome after: two people who click
at once ask for one silence, and a failure can be tried again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final
from uuid import UUID

import msgspec

from spanpost.interactions.alertmanager import Alertmanager, SilenceError
from spanpost.interactions.protocols import Asked, InteractionMetrics, PersonMessage
from spanpost.interactions.requested_acts import ActOutcome, RequestedAct
from spanpost.model.alerts import Alert, SilenceFailure, SilenceState
from spanpost.model.interventions import Result, Verb
from spanpost.model.recorded import Recorded
from spanpost.store.protocols import Alerts, Reader

_SPAN: Final = re.compile(r"^([0-9]{1,4})([mhd])\Z")
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


class AlertActs:
    """The alerts of a store, and the Alertmanager of each: None where none may be called for it."""

    def __init__(
        self,
        alerts: Alerts,
        choose: Callable[[Alert], Alertmanager | None],
        *,
        take: Callable[[Recorded], None],
        watch: InteractionMetrics | None = None,
        zone: tzinfo = UTC,
    ) -> None:
        self.store = alerts
        self.choose = choose
        self._take = take
        self._watch = watch
        self._zone = zone

    def until(self, word: str, now: datetime) -> datetime | None:
        """Return the end of a silence: ``30m``, ``4h``, ``2d``, or ``morning`` (tomorrow at nine).

        None for any other word.
        """
        if word == "morning":
            tomorrow = now.astimezone(self._zone).date() + timedelta(days=1)
            return datetime.combine(tomorrow, time(9), self._zone).astimezone(UTC)
        match = _SPAN.match(word)
        return now + int(match[1]) * _UNITS[match[2]] if match is not None else None

    async def find(self, reader: Reader, key: UUID, message: PersonMessage) -> Asked | None:
        """Return an alert with its task, and whether that message shows it. Raises `StoreUnavailable`."""
        alert = (await self.store.known([key])).get(key)
        if alert is None:
            return None
        task = await reader.refer(alert.tenant, f"{alert.trace_id.hex()}-{alert.span_id.hex()}")
        if task is None:
            return None
        is_there = message.is_ours
        if message.ts:
            shown = await reader.shown_in("slack", {"channel": message.channel, "ts": message.ts})
            is_there = is_there if shown is None else shown.uid in (task.root_uid, task.uid)
        return Asked(key=key, task=task, alert=alert, is_shown_there=is_there)

    async def finished(self, act: RequestedAct, outcome: ActOutcome) -> ActOutcome:
        """Ask Alertmanager for what an act needs of it. Raises `StoreUnavailable`, as `carry_out` does."""
        verdict = outcome.verdict
        if not act.verb.is_of_alert or verdict is None or verdict.is_repeat or verdict.result is not Result.DONE:
            return outcome
        failure = await self.carry_out(act.verb, act.key, verdict.by)
        if failure is None:
            return outcome
        answer = outcome.locale.say(f"interactions.alertmanager_{failure}")
        return msgspec.structs.replace(outcome, failure=failure, answer=answer)

    async def carry_out(self, verb: Verb, key: UUID, by: str) -> SilenceFailure | None:
        """Ask Alertmanager for what was recorded as asked for; record the outcome, and return why it failed.

        Raises `StoreUnavailable`: the outcome is not recorded, and the person may ask again later.
        """
        alert = (await self.store.known([key])).get(key)
        asked = alert.silence if alert is not None else None
        if alert is None or asked is None or asked.state not in (SilenceState.SETTING, SilenceState.ENDING):
            return None
        failure, id = None, asked.id
        try:
            alertmanager = self.choose(alert)
            if alertmanager is None:
                raise SilenceError(SilenceFailure.REFUSED)
            if asked.state is SilenceState.SETTING:
                id = await alertmanager.silence(alert, asked, datetime.now(UTC))
            else:
                await alertmanager.unsilence(asked.id)
        except SilenceError as error:
            failure = error.failure
        concluded = await self.store.conclude(key, asked, id, failure, by)
        if concluded is not None:
            self._take(concluded.recorded)
        if self._watch is not None:
            self._watch.silenced(str(verb), str(failure or "done"))
        return failure
