"""Tests of people's acts on alerts in every store: acknowledged once, silenced once, shown where the alert is."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from spanpost.model.alerts import SilenceFailure, SilenceState
from spanpost.model.interventions import Actor, Intervention, Result, Verb
from spanpost.testing.exercise_alerts import EDITING, an_alert
from spanpost.testing.exercise_people import at_work
from spanpost.testing.exercise_store import MakeStore, drain


def an_alert_act(
    verb: Verb, key: UUID, by: str = "alice", *, tenant: str = "default", hours: float = 4
) -> Intervention:
    """Return a person's act on an alert."""
    until = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
    return Intervention(
        tenant=tenant,
        verb=verb,
        key=key,
        actor=Actor(provider="slack", id=f"U-{by}", name=by),
        parameters={"until": until} if verb is Verb.SILENCE else {},
        source="slack",
        idempotency_key=f"{verb} {key} {by} {hours}",
        at=datetime.now(UTC),
    )


class ExerciseAlertActs:
    """Tests of people's acts on alerts in every store."""

    @pytest.mark.parametrize("is_own", [True, False])
    async def test_the_first_acknowledgement_stands_and_is_shown(self, make_store: MakeStore, is_own: bool) -> None:
        """An alert is acknowledged once, by the first person, and its message or reply is edited with the name;
        a repeat of the act changes nothing, and a second person learns who was first.
        """
        store = await make_store(EDITING)
        await store.record([at_work(trace=1)])
        taken = await store.alerts.take(an_alert(**({} if is_own else {"trace_id": f"{1:032x}"})))
        before = {d.id for d in await drain(store) if d.alert is not None}
        first = an_alert_act(Verb.ACKNOWLEDGE, taken.alert.id)
        verdict = await store.alerts.intervene(first)
        assert (verdict.result, verdict.by, verdict.is_repeat) == (Result.DONE, "alice", False)
        assert verdict.task_uid is not None
        [shown] = [d for d in await drain(store) if d.alert is not None and d.id in before]
        assert shown.alert is not None
        assert shown.alert.acknowledged_by == "alice"
        assert (await store.alerts.intervene(first)).is_repeat
        second = await store.alerts.intervene(an_alert_act(Verb.ACKNOWLEDGE, taken.alert.id, "bob"))
        assert (second.result, second.decision, second.by) == (Result.DECIDED, "acknowledged", "alice")
        assert [d for d in await drain(store) if d.alert is not None] == []
        await store.alerts.take(an_alert("resolved", **({} if is_own else {"trace_id": f"{1:032x}"})))
        resolved = (await store.alerts.known([taken.alert.id]))[taken.alert.id]
        assert (resolved.is_resolved, resolved.acknowledged_by) == (True, "alice")
        late = await store.alerts.intervene(an_alert_act(Verb.SILENCE, taken.alert.id))
        assert late.result is Result.TOO_LATE

    async def test_people_who_silence_at_once_ask_for_one_silence(self, make_store: MakeStore) -> None:
        """Of ten people who silence an alert at once one is to go on; its outcome is recorded once, shown, and
        the silence can be ended and set again.
        """
        store = await make_store(EDITING)
        key = (await store.alerts.take(an_alert())).alert.id
        await drain(store)
        acts = [an_alert_act(Verb.SILENCE, key, f"p{n}") for n in range(10)]
        verdicts = await asyncio.gather(*map(store.alerts.intervene, acts))
        assert sorted(v.result for v in verdicts) == [Result.DECIDED] * 9 + [Result.DONE]
        asked = (await store.alerts.known([key]))[key].silence
        assert asked is not None
        assert asked.state is SilenceState.SETTING
        assert await drain(store) == []
        concluded = await store.alerts.conclude(key, asked, "s-1", None, asked.by)
        assert concluded is not None
        assert concluded.alert.silence is not None
        assert (concluded.alert.silence.state, concluded.alert.silence.id) == (SilenceState.ACTIVE, "s-1")
        assert await store.alerts.conclude(key, asked, "s-2", None, asked.by) is None
        [shown] = await drain(store)
        assert shown.alert == concluded.alert
        assert (await store.alerts.intervene(acts[0])).is_repeat
        assert (await store.alerts.intervene(an_alert_act(Verb.UNSILENCE, key))).result is Result.DONE
        ending = (await store.alerts.known([key]))[key].silence
        assert ending is not None
        failed = await store.alerts.conclude(key, ending, "", SilenceFailure.UNREACHABLE, "alice")
        assert failed is not None
        assert failed.alert.silence is not None
        assert (failed.alert.silence.state, failed.alert.silence.id) == (SilenceState.ACTIVE, "s-1")
        assert (await store.alerts.intervene(an_alert_act(Verb.UNSILENCE, key, "bob"))).result is Result.DONE
        ending = (await store.alerts.known([key]))[key].silence
        assert ending is not None
        ended = await store.alerts.conclude(key, ending, "", None, "bob")
        assert ended is not None
        assert ended.alert.silence is not None
        assert ended.alert.silence.state is SilenceState.ENDED
        assert (await store.alerts.intervene(an_alert_act(Verb.SILENCE, key, "carol"))).result is Result.DONE

    async def test_a_failed_silence_may_be_asked_for_again(self, make_store: MakeStore) -> None:
        """After a failure the next person may silence; the alert says why the first try failed."""
        store = await make_store(EDITING)
        key = (await store.alerts.take(an_alert())).alert.id
        await store.alerts.intervene(an_alert_act(Verb.SILENCE, key))
        asked = (await store.alerts.known([key]))[key].silence
        assert asked is not None
        await store.alerts.conclude(key, asked, "", SilenceFailure.TIMEOUT, "alice")
        [alert] = await store.alerts.listed("default", True, 10)
        assert alert.silence is not None
        assert (alert.silence.state, alert.silence.failure) == (SilenceState.FAILED, SilenceFailure.TIMEOUT)
        assert (await store.alerts.intervene(an_alert_act(Verb.SILENCE, key, "bob"))).result is Result.DONE

    async def test_acts_that_must_not_count_change_nothing(self, make_store: MakeStore) -> None:
        """A refused act, one of another tenant, an unknown alert, and a silence that ends in the past or too far ahead
        change nothing.
        """
        store = await make_store(EDITING)
        key = (await store.alerts.take(an_alert())).alert.id
        before = await store.alerts.known([key])
        refused = msgspec.structs.replace(an_alert_act(Verb.SILENCE, key), refusal="no")
        results = [
            (await store.alerts.intervene(act)).result
            for act in (
                refused,
                an_alert_act(Verb.ACKNOWLEDGE, key, tenant="acme"),
                an_alert_act(Verb.ACKNOWLEDGE, UUID(int=5)),
                an_alert_act(Verb.SILENCE, key, hours=-1),
                an_alert_act(Verb.SILENCE, key, hours=24 * 40),
                an_alert_act(Verb.UNSILENCE, key),
            )
        ]
        assert results == [
            Result.REFUSED, Result.UNKNOWN, Result.UNKNOWN, Result.TOO_LATE, Result.TOO_LATE, Result.DECIDED,
        ]  # fmt: skip
        assert await store.alerts.known([key]) == before
