"""Tests of messages that wait in every store (`routing.noise`), as a class of tests: subclass it with a fixture named
`make_store`.

See `spanpost.testing.exercise_store`. The store's own clock runs: what has to wait here waits an hour, and what has to
come comes in a fraction of a second.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from spanpost.model.deliveries import Delivery, Mode
from spanpost.model.observations import Observation, Status
from spanpost.routing.routes import Route, Routes
from spanpost.store.protocols import Store
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import NO_STALL
from spanpost.testing import observed
from spanpost.testing.exercise_stall import until
from spanpost.testing.exercise_store import SINK, MakeStore, drain
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import an_event, ended, started

SHORT = timedelta(seconds=0.6)
HOUR = timedelta(hours=1)


def _rules(**of_route: Any) -> FoldRules:
    """Return rules with one route, which says what waits."""
    return FoldRules(routes=Routes(sinks=(SINK,), routes=(Route(sink=SINK, **of_route),)), stall_rules=NO_STALL)


def _hours(begin: datetime, end: datetime) -> FoldRules:
    """Return rules whose quiet hours begin and end at these times."""
    return _rules(quiet=(begin.time(), end.time()))


def _quiet() -> FoldRules:
    """Return rules for which it is in the middle of the quiet hours."""
    now = datetime.now(UTC)
    return _hours(now - HOUR, now + HOUR)


def _agent(name: str) -> dict[str, Any]:
    return {"agent.task.name": name, "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}


def _now() -> float:
    """Return this moment as builders of observations count."""
    return (time.time_ns() - observed.BEGAN) / 1e9


def _begun(name: str, trace: int = 1, ago: float = 0.0) -> Observation:
    return started(trace=trace, span=1, name="agent", attributes=_agent(name), at=_now() - ago)


def _over(name: str, trace: int = 1, status: Status = Status.OK) -> Observation:
    return ended(trace=trace, span=1, name="agent", attributes=_agent(name), at=_now() - 5, status=status)


def _event(name: str, trace: int = 1, index: int = 0, **attributes: Any) -> Observation:
    said = {key.replace("__", "."): value for key, value in attributes.items()}
    return an_event(trace=trace, span=1, name=name, index=index, attributes=said, at=_now())


def _question(trace: int = 1) -> Observation:
    return _event("agent.approval.requested", trace, agent__approval__id="a1", agent__approval__question="go?")


def _messages(delivered: list[Delivery]) -> list[str]:
    return [d.task.name for d in delivered if d.mode is Mode.STATE]


async def _first(store: Store) -> Delivery:
    """Wait for a message and return it."""
    found: list[Delivery] = []

    async def is_posted() -> bool:
        found.extend(await drain(store))
        return bool(found)

    await until(is_posted, store)
    return found[0]


class ExerciseHeld(Exercised):
    """Tests of messages that wait in every store."""

    # --- after -------------------------------------------------------------------------------------------------------

    async def test_a_task_has_its_message_when_it_has_run_that_long(self, make_store: MakeStore) -> None:
        """The message of a task that says nothing more comes by itself, once, and not before its time."""
        store = await make_store(_rules(after=SHORT))
        begun = _begun("lasts")
        await store.record([begun])
        posted = await _first(store)
        assert (posted.mode, posted.task.name, posted.checkpoint) == (Mode.STATE, "lasts", None)
        assert posted.task.started_at is not None
        assert posted.claimed_at is not None
        assert posted.claimed_at >= posted.task.started_at + SHORT
        await self.pass_time(store, 3600)
        await store.elapse()
        assert await drain(store) == []

    async def test_a_task_that_ends_before_has_no_message(self, make_store: MakeStore) -> None:
        """A short task has no message, neither at its end nor when its time would have come, and is recorded."""
        store = await make_store(_rules(after=HOUR))
        await store.record([_begun("short")])
        await store.record([_event("agent.checkpoint", agent__checkpoint__message="half", agent__progress=50.0)])
        assert await drain(store) == []
        await store.record([_over("short")])
        assert await drain(store) == []
        await self.pass_time(store, 3601)
        await store.elapse()
        assert await drain(store) == []
        assert len(await store.reader.checkpoints()) >= 2

    async def test_a_task_that_was_long_at_work_waits_no_longer(self, make_store: MakeStore) -> None:
        """A task that began long ago has its message at once."""
        store = await make_store(_rules(after=HOUR))
        await store.record([_begun("old", ago=2 * HOUR.total_seconds())])
        assert _messages(await drain(store)) == ["old"]

    async def test_a_question_and_a_failure_do_not_wait(self, make_store: MakeStore) -> None:
        """A short task that asks, and one that fails, have their messages and lines at once."""
        store = await make_store(_rules(after=HOUR))
        await store.record([_begun("asks", 1), _begun("fails", 2), _begun("works", 3)])
        assert await drain(store) == []
        await store.record([_question(1), _over("fails", 2, Status.ERROR), _over("works", 3)])
        posted = await drain(store)
        assert sorted(_messages(posted)) == ["asks", "fails"]
        assert sorted({d.task.name for d in posted if d.checkpoint is not None}) == ["asks", "fails"]

    # --- quiet hours -------------------------------------------------------------------------------------------------

    async def test_what_waited_in_quiet_hours_is_posted_when_they_are_over(self, make_store: MakeStore) -> None:
        """One message comes when the hours end, by itself, with the state of then and without the lines."""
        over = datetime.now(UTC) + SHORT
        store = await make_store(_hours(over - HOUR, over))
        opened = datetime.now(UTC)
        await store.record([_begun("at night")])
        await store.record([_event("agent.checkpoint", agent__checkpoint__message="half", agent__progress=50.0)])
        posted = await _first(store)
        assert (posted.mode, posted.task.name, posted.task.progress) == (Mode.STATE, "at night", 50.0)
        assert posted.claimed_at is not None
        assert posted.claimed_at >= over or opened >= over  # a machine so slow that the hours were over

    async def test_quiet_hours_hold_new_messages_alone(self, make_store: MakeStore) -> None:
        """Questions and failures are posted; a message that exists is edited, without a line."""
        store = await make_store(_quiet())
        await store.record([_begun("works", 1), _begun("asks", 2), _begun("fails", 3), _over("short", 4)])
        assert await drain(store) == []
        await store.record([_question(2), _over("fails", 3, Status.ERROR)])
        assert sorted(_messages(await drain(store))) == ["asks", "fails"]
        decided = {"agent__approval__id": "a1", "agent__approval__decision": "approve"}
        await store.record([_event("agent.approval.resolved", 2, 1, **decided)])
        await drain(store)
        half = {"agent__checkpoint__message": "half", "agent__progress": 50.0}
        await store.record([_event("agent.checkpoint", trace, 2, **half) for trace in (1, 2)])
        edited = await drain(store)
        assert [(d.mode, d.task.name, d.task.progress) for d in edited] == [(Mode.STATE, "asks", 50.0)]
