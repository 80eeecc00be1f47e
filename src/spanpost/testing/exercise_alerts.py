"""Tests of alerts in every store: one message at the right place, edited when the alert is resolved."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from spanpost.model.alerts import Alert
from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Mode, Receipt
from spanpost.model.queries import TaskQuery
from spanpost.readers.alerts import read
from spanpost.routing.routes import Routes
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import NO_STALL
from spanpost.testing import observed
from spanpost.testing.exercise_people import at_work
from spanpost.testing.exercise_store import ROUTED_RULES, SINK, MakeStore, drain
from spanpost.testing.observed import ended, started

EDITING = FoldRules(routes=Routes(sinks=(SINK,), editing=frozenset({SINK})), stall_rules=NO_STALL)


def an_alert(
    status: str = "firing", /, *, starts: str = "2026-11-21T10:00:00Z", tenant: str = "default", **labels: str
) -> Alert:
    """Return an alert as a webhook reports it; keywords are its labels."""
    given: dict[str, Any] = {
        "status": status,
        "labels": {"alertname": "DiskFull", "severity": "critical", **labels},
        "annotations": {
            "summary": "The disk is full",
            "description": "Delete something",
            "runbook_url": "https://example.org/r",
        },
        "startsAt": starts,
        "endsAt": "2026-11-21T10:05:00Z" if status == "resolved" else "0001-01-01T00:00:00Z",
        "fingerprint": f"f-{sorted(labels.items())}",
    }
    return read(given, "alertmanager", tenant)


def _delivered(deliveries: list[Delivery]) -> list[tuple[str, str, bool | None]]:
    """Return the deliveries: the checkpoint or the state, its task, and whether its alert is resolved."""
    return [
        (
            d.checkpoint.text if d.mode is Mode.CHECKPOINT and d.checkpoint is not None else f"[{d.task.status}]",
            d.task.name,
            None if d.alert is None else d.alert.is_resolved,
        )
        for d in deliveries
    ]


class ExerciseAlerts:
    """Tests of alerts in every store."""

    async def test_an_alert_that_names_no_task_is_one_message(self, make_store: MakeStore) -> None:
        """It has a message of its own, edited when it is resolved, without checkpoints below.

        It counts as no agent's task.
        """
        store = await make_store(EDITING)
        taken = await store.alerts.take(an_alert())
        assert taken.alert.is_own
        assert _delivered(await drain(store)) == [("[waiting]", "DiskFull", False)]
        fleet = await store.fleet()
        assert fleet is not None
        assert fleet.tasks == []
        await store.alerts.take(an_alert("resolved"))
        [edited] = await drain(store)
        assert _delivered([edited]) == [("[complete]", "DiskFull", True)]
        assert edited.message_receipt == Receipt(ref={"ts": "1.0"})
        assert edited.alert is not None
        assert (edited.alert.summary, edited.alert.links) == ("The disk is full", {"Runbook": "https://example.org/r"})

    async def test_an_alert_stands_in_the_thread_of_its_task(self, make_store: MakeStore) -> None:
        """An alert that names a task by its id or its trace is shown in that task's thread, and edited there
        when it is resolved.
        """
        store = await make_store(EDITING)
        await store.record([at_work("deploy", trace=1), at_work("other", trace=2)])
        await drain(store)
        by_id, by_trace = (await store.tasks(TaskQuery()))[0], f"{2:032x}"
        for labels, name in (({"task_id": by_id.task_id}, by_id.name), ({"trace_id": by_trace}, "other")):
            taken = await store.alerts.take(an_alert(**labels))
            assert not taken.alert.is_own
            [delivered] = [d for d in await drain(store) if d.mode is Mode.CHECKPOINT]
            assert _delivered([delivered]) == [("Critical · DiskFull: The disk is full", name, False)]
            assert (delivered.checkpoint and delivered.checkpoint.detail, delivered.urgency) == (
                "Delete something",
                "error",
            )
            await store.alerts.take(an_alert("resolved", **labels))
            [again] = [d for d in await drain(store) if d.mode is Mode.CHECKPOINT]
            assert _delivered([again]) == [("Resolved · DiskFull: The disk is full", name, True)]
            assert (again.id, again.receipt) == (delivered.id, Receipt(ref={"ts": "1.0"}))
        assert sum(c.kind is Kind.ALERT for c in await store.reader.checkpoints()) == 4

    async def test_a_sink_that_cannot_edit_gets_two_deliveries(self, make_store: MakeStore) -> None:
        """For a sink that cannot edit checkpoints, a resolved alert is a second delivery."""
        store = await make_store(ROUTED_RULES)
        await store.record([at_work()])
        for status in ("firing", "resolved"):
            await store.alerts.take(an_alert(status, trace_id=f"{1:032x}"))
        delivered = [text for text, _, _ in _delivered(await drain(store)) if "DiskFull" in text]
        assert delivered == ["Critical · DiskFull: The disk is full", "Resolved · DiskFull: The disk is full"]

    async def test_a_repeated_alert_makes_no_delivery(self, make_store: MakeStore) -> None:
        """Repetitions, at once and later, and a firing after the end make no delivery.

        The same alert that starts again does.
        """
        store = await make_store(EDITING)
        first = await asyncio.gather(*(store.alerts.take(an_alert()) for _ in range(5)))
        assert sorted(taken.is_repeat for taken in first) == [False, True, True, True, True]
        over = [await store.alerts.take(an_alert(status)) for status in ("resolved", "resolved", "firing")]
        assert [taken.is_repeat for taken in over] == [False, True, True]
        await drain(store)
        assert (await store.tasks(TaskQuery()))[0].status == "complete"
        assert await store.outbox.claim([SINK], 10) == []
        later = await store.alerts.take(an_alert(starts="2026-11-21T12:00:00Z"))
        assert not later.is_repeat
        assert len(await store.tasks(TaskQuery())) == 2
        assert (await store.alerts.known([later.alert.id]))[later.alert.id] == later.alert

    async def test_the_place_of_an_alert_is_decided_once(self, make_store: MakeStore) -> None:
        """An alert that names an unknown task has a message of its own, and keeps it when the task arrives."""
        store = await make_store(EDITING)
        assert (await store.alerts.take(an_alert(task_id="late"))).alert.is_own
        await store.record([at_work("late", attributes={"agent.task.id": "late"})])
        await drain(store)
        over = await store.alerts.take(an_alert("resolved", task_id="late"))
        assert over.alert.is_own
        assert _delivered(await drain(store)) == [("[complete]", "DiskFull", True)]

    @pytest.mark.parametrize("others", [0, 1])
    async def test_an_alert_finds_the_only_task_in_a_state(self, make_store: MakeStore, others: int) -> None:
        """A rule without ids names the state of its task.

        The alert goes to the agent's only task in that state, never to one of several.
        """
        store = await make_store(EDITING)
        said = {"agent.name": "coder", "agent.status": "working"}
        await store.record([at_work(f"n{n}", trace=n, attributes=said) for n in range(1, 2 + others)])
        await store.record(
            [at_work("done", trace=9, attributes=said), ended(trace=9, span=1, name="agent", attributes=said)]
        )
        given = an_alert(agent="coder")
        meant = msgspec.structs.replace(given, annotations={"task_status": "working"})
        assert (await store.alerts.take(meant)).alert.is_own == bool(others)

    @pytest.mark.parametrize(
        ("late", "more", "is_own"),
        [(0.0, [], False), (0.0, [(2, -10.0)], True), (0.0, [(2, 5.0)], False), (3600.0, [], True), (-60.0, [], True)],
        ids=["it alone", "one of two", "another began later", "it ended long before", "it began later"],
    )
    async def test_an_alert_finds_the_only_task_of_a_moment_ago(
        self, make_store: MakeStore, late: float, more: list[tuple[int, float]], is_own: bool
    ) -> None:
        """A task that ended, or left the state, before the alert arrived is found if no other task of its
        agent was under way then.
        """
        store = await make_store(EDITING)
        said = {"agent.name": "coder"}
        span: dict[str, Any] = {"trace": 1, "span": 1, "name": "agent", "at": -20.0, "attributes": said}
        await store.record([started(**span), ended(**span, seconds=30.0)])
        await store.record([started(trace=n, span=1, name="agent", at=at, attributes=said) for n, at in more])
        starts = datetime.fromtimestamp(observed.BEGAN / 1e9 + late, UTC).isoformat()
        for is_first in (True, False):
            alert = an_alert("firing" if is_first else "resolved", starts=starts, agent="coder")
            taken = await store.alerts.take(
                msgspec.structs.replace(alert, annotations={"task_status": "context_warning"})
            )
            assert (taken.is_repeat, taken.alert.is_own) == (False, is_own)

    async def test_an_alert_finds_no_task_of_another_tenant(self, make_store: MakeStore) -> None:
        """An alert finds tasks of its own tenant alone, and is another alert in another tenant."""
        store = await make_store(EDITING)
        await store.record([at_work()])
        for tenant, is_own in (("other", True), ("default", False)):
            taken = await store.alerts.take(an_alert(tenant=tenant, trace_id=f"{1:032x}"))
            assert (taken.is_repeat, taken.alert.is_own) == (False, is_own)

    async def test_an_ended_or_muted_task_shows_its_alerts(self, make_store: MakeStore) -> None:
        """An alert about a task that has ended is shown in its thread, and changes nothing of the task."""
        store = await make_store(EDITING)
        await store.record([at_work(), ended(trace=1, span=1, name="agent", attributes={"agent.task.name": "deploy"})])
        await drain(store)
        [before] = await store.tasks(TaskQuery())
        await store.alerts.take(an_alert(trace_id=f"{1:032x}"))
        assert [text for text, _, _ in _delivered(await drain(store)) if "DiskFull" in text] == [
            "Critical · DiskFull: The disk is full"
        ]
        assert await store.tasks(TaskQuery()) == [before]
