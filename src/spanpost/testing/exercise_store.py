"""The behaviour that every store shares, as a class of tests: subclass it with a fixture named `make_store`.

    class TestMine(ExerciseStore):
        @pytest.fixture
        async def make_store(self): ...   # a `MakeStore`: returns an open, empty store

It uses the `Store` protocol alone. Tests are coroutines (pytest-asyncio in auto mode runs them).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Receipt
from spanpost.model.observations import Observation, Status
from spanpost.model.queries import TaskQuery
from spanpost.routing.routes import Routes
from spanpost.store.protocols import Store
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import NO_STALL
from spanpost.testing.observed import a_run, an_event, ended, started

SINK = "probe"
#: Every checkpoint is delivered to `SINK`, and no task is stalled.
ROUTED_RULES = FoldRules(routes=Routes(sinks=(SINK,)), stall_rules=NO_STALL)
POSTED = Receipt(ref={"ts": "1.0"})
_AT_ONCE = timedelta(0)


class MakeStore(Protocol):
    """**Protocol:** makes an open, empty store."""

    def __call__(
        self, rules: FoldRules = ROUTED_RULES, lease: timedelta = timedelta(seconds=60)
    ) -> Awaitable[Store]: ...


async def drain(store: Store, outcome: Callable[[Delivery], Any] = lambda _: POSTED) -> list[Delivery]:
    """Deliver until nothing is due and return the deliveries, in order."""
    out: list[Delivery] = []
    while claimed := await store.outbox.claim([SINK], 100):
        for delivery in claimed:
            await store.outbox.finish(delivery, outcome(delivery))
            out.append(delivery)
    return out


class ExerciseStore:
    """Tests of recording and reading in every store."""

    async def test_a_run_becomes_a_task_with_its_own_figures(self, make_store: MakeStore) -> None:
        """A run of an agent is one task: named, ended, with its calls counted once."""
        store = await make_store()
        recorded = await store.record(a_run("refactor"))
        [task] = await store.tasks(TaskQuery())
        assert (task.name, task.status, task.llm_calls, task.tool_calls) == ("refactor", "complete", 1, 1)
        assert (task.input_tokens, task.output_tokens) == (100, 20)
        assert recorded.events == len(a_run("refactor"))
        assert sum(recorded.parts.values()) == recorded.events
        assert recorded.started == recorded.ended == [task.uid]

    async def test_open_tasks_are_counted_by_status(self, make_store: MakeStore) -> None:
        """Tasks that have not ended are counted under their status, those that have are not."""
        store = await make_store()
        nothing = await store.fleet()
        assert nothing is not None
        assert nothing.by_status == {}
        root_span: dict[str, Any] = {"agent.task.name": "live", "gen_ai.operation.name": "invoke_agent"}
        await store.record([*a_run("over"), started(trace=3, span=1, name="agent", attributes=root_span)])
        fleet = await store.fleet()
        assert fleet is not None
        assert fleet.by_status == {"starting": 1}
        asked = await store.fleet(is_asked=True)
        assert asked is not None
        assert asked.by_status == {"starting": 1}
        assert 0 <= fleet.tasks[0].stall < 60

    async def test_retries_of_a_failing_task_are_counted(self, make_store: MakeStore) -> None:
        """The last failure of a chain counts its retries; one that a later retry mended counts nothing."""
        store = await make_store()
        for chain, agent, last in (("a", "unlucky", Status.ERROR), ("b", "mended", Status.OK)):
            for n in range(1, 5):
                root_span: dict[str, Any] = {
                    "agent.task.id": f"{chain}-{n}",
                    "gen_ai.operation.name": "invoke_agent",
                    "gen_ai.agent.name": agent,
                    **({"agent.retry_of": f"{chain}-{n - 1}"} if n > 1 else {}),
                }
                status = Status.ERROR if n < 4 else last
                trace = 10 * ord(chain) + n
                await store.record(
                    [ended(trace=trace, span=1, name="agent", attributes=root_span, status=status, at=-60.0)]
                )
        fleet = await store.fleet()
        assert fleet is not None
        assert [(each.agent_name, each.retries) for each in fleet.retried] == [("unlucky", 3)]

    async def test_replaced_states_are_counted(self, make_store: MakeStore) -> None:
        """A waiting state that a newer one replaces saves an edit, and is counted under its sink;
        checkpoints are not replaced.
        """
        store = await make_store()
        root_span: dict[str, Any] = {
            "agent.task.id": "gives-way",
            "agent.task.name": "live",
            "gen_ai.operation.name": "invoke_agent",
        }
        first = await store.record([started(trace=3, span=1, name="agent", attributes=root_span)])
        second = await store.record([ended(trace=3, span=1, name="agent", attributes=root_span)])
        assert first.coalesced == {}
        assert set(second.coalesced.values()) == {1}

    async def test_a_duplicate_batch_changes_nothing(self, make_store: MakeStore) -> None:
        """A batch that comes again changes nothing, makes no checkpoint and is counted as duplicates."""
        store = await make_store()
        batch = a_run("idempotency_key")
        await store.record(batch)
        before = (await store.tasks(TaskQuery()), await store.reader.checkpoints(), await store.counts())
        await drain(store)
        again = await store.record(batch)
        assert (again.events, again.duplicates, again.checkpoints, again.started) == (0, len(batch), [], [])
        after = (await store.tasks(TaskQuery()), await store.reader.checkpoints(), await store.counts())
        assert after[:2] == before[:2]
        assert after[2]["agent_events"] == before[2]["agent_events"]
        assert await store.outbox.claim([SINK], 10) == []

    async def test_a_duplicate_within_one_batch_is_one(self, make_store: MakeStore) -> None:
        """A batch that holds an observation twice records it once."""
        store = await make_store()
        batch = a_run("twice")
        recorded = await store.record([*batch, *batch])
        assert (recorded.events, recorded.duplicates) == (len(batch), len(batch))

    async def test_one_at_a_time_is_as_good_as_all_at_once(self, make_store: MakeStore) -> None:
        """The same observations in one batch and one by one, children first, give the same task and the same
        checkpoints.
        """
        whole, single = await make_store(), await make_store()
        batch = a_run("either way")
        await whole.record(batch)
        for observation in reversed(batch):
            await single.record([observation])

        async def seen(store: Store) -> Any:
            return await store.tasks(TaskQuery()), {c.id for c in await store.reader.checkpoints()}

        [first], first_checkpoints = await seen(whole)
        [second], second_checkpoints = await seen(single)
        figures = ("task_id", "name", "status", "llm_calls", "tool_calls", "input_tokens", "artifacts", "agent_name")
        assert [getattr(first, f) for f in figures] == [getattr(second, f) for f in figures]
        assert first_checkpoints == second_checkpoints

    async def test_spans_of_no_agent_are_ignored(self, make_store: MakeStore) -> None:
        """Spans that are not an agent's are counted, not recorded."""
        store = await make_store()
        recorded = await store.record([ended(trace=9, span=1, name="GET /", attributes={"http.request.method": "GET"})])
        assert (recorded.events, recorded.ignored) == (0, 1)
        assert await store.tasks(TaskQuery()) == []

    async def test_an_empty_batch_is_nothing(self, make_store: MakeStore) -> None:
        """Recording an empty batch returns that nothing was new."""
        store = await make_store()
        assert (await store.record([])).events == 0

    async def test_a_task_is_seen_while_it_runs(self, make_store: MakeStore) -> None:
        """A live start makes the task, events update it, the end ends it: one task, one start, one end."""
        store = await make_store()
        root_span: dict[str, Any] = {"agent.task.name": "live", "gen_ai.operation.name": "invoke_agent"}
        first = await store.record([started(trace=3, span=1, name="agent", attributes=root_span)])
        [task] = await store.tasks(TaskQuery())
        assert (task.status in ("starting", "working"), first.started) == (True, [task.uid])
        await store.record(
            [an_event(trace=3, span=1, name="agent.checkpoint", attributes={"agent.progress": 40.0}, index=0)]
        )
        [task] = await store.tasks(TaskQuery())
        assert task.progress == 40.0
        last = await store.record([ended(trace=3, span=1, name="agent", attributes=root_span)])
        assert last.ended == [task.uid]
        kinds = [c.kind for c in await store.reader.checkpoints(task_uid=task.uid)]
        assert kinds.count(Kind.START) == kinds.count(Kind.END) == 1

    async def test_tasks_are_found_by_what_people_know(self, make_store: MakeStore) -> None:
        """Tasks are listed newest first and found by status, agent, tenant and any id they were known by."""
        store = await make_store()
        bad = a_run("bad", trace=3, at=-30.0, is_failed=True)
        await store.record([*a_run("old", trace=1, at=-60.0), *a_run("new", trace=2), *bad])
        names = [t.name for t in await store.tasks(TaskQuery())]
        assert names == ["new", "bad", "old"]
        assert [t.name for t in await store.tasks(TaskQuery(limit=1))] == ["new"]
        assert [t.name for t in await store.tasks(TaskQuery(status="error"))] == ["bad"]
        assert await store.tasks(TaskQuery(tenant="stranger")) == []
        assert len(await store.tasks(TaskQuery(agent_name="coder"))) == 3
        [old] = [t for t in await store.tasks(TaskQuery()) if t.name == "old"]
        for alias in (old.task_id, *old.aliases):
            assert [t.name for t in await store.tasks(TaskQuery(task_id=alias))] == ["old"]

    async def test_checkpoints_come_in_order_of_time(self, make_store: MakeStore) -> None:
        """Checkpoints are listed by their time, of all tasks or of one, and are read back unchanged."""
        store = await make_store()
        recorded = await store.record([*a_run("b", trace=2), *a_run("a", trace=1, at=-60.0)])
        listed = await store.reader.checkpoints()
        assert [c.at for c in listed] == sorted(c.at for c in listed)
        assert {c.id: c for c in listed} == {c.id: c for c in recorded.checkpoints}
        said = {(c.message.key, *c.message.values.values()) for c in listed if c.message is not None}
        assert {("checkpoint.started", "a"), ("checkpoint.started", "b")} <= said
        uid = listed[0].task_uid
        assert {c.task_uid for c in await store.reader.checkpoints(task_uid=uid)} == {uid}
        assert len(await store.reader.checkpoints(limit=1)) == 1

    async def test_one_bad_observation_does_not_spoil_its_batch(self, make_store: MakeStore) -> None:
        """An observation that no store can record is dropped alone and counted; the rest is recorded, and
        the same batch again is a duplicate.
        """
        store = await make_store()
        broken = msgspec.structs.replace(a_run("x")[0], trace_id=None)
        batch = [*a_run("a"), broken, *a_run("b", trace=2)]
        recorded = await store.record(batch)
        assert (recorded.events, recorded.dropped) == (len(batch) - 1, {"unfoldable": 1})
        assert len(await store.tasks(TaskQuery())) == 2
        again = await store.record(batch)
        assert (again.events, again.duplicates) == (0, len(batch) - 1)

    async def test_hostile_text_loses_nothing(self, make_store: MakeStore) -> None:
        """NUL, NaN and huge numbers in one observation neither raise nor drop the others."""
        store = await make_store()
        worst: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "a\0b",
            "x": float("nan"),
            "y": 2**64 - 1,
            "z": "\0",
            "\0key": ["\0", {"deep": "\0"}],
        }
        batch = [*a_run("siblings"), ended(trace=1, span=77, parent=1, name="bad\0", attributes=worst)]
        recorded = await store.record(batch)
        assert recorded.events == len(batch)
        [task] = await store.tasks(TaskQuery())
        assert task.tool_calls == 2
        more = await store.record(
            [ended(trace=1, span=78, parent=1, name="after", attributes={"gen_ai.operation.name": "chat"})]
        )
        assert more.events == 1

    async def test_counts_of_tables_and_states(self, make_store: MakeStore) -> None:
        """Counts name the rows of each table and the deliveries of each state."""
        store = await make_store()
        await store.record(a_run("counted"))
        before = await store.counts()
        assert (before["agent_events"], before["agent_tasks"]) == (len(a_run("counted")), 1)
        assert before["deliveries"]["waiting"] > 0
        out = await drain(store)
        assert (await store.counts())["deliveries"] == {"delivered": len(out)}


def in_seconds(seconds: float) -> datetime:
    """Return a moment so many seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def steps(count: int, trace: int = 1) -> list[Observation]:
    """Return a task that started and reported so many checkpoints."""
    root_span: dict[str, Any] = {"agent.task.name": f"steps {trace}"}
    said = [{"agent.checkpoint.message": f"step {i}"} for i in range(count)]
    events = [
        an_event(trace=trace, span=1, name="agent.checkpoint", attributes=a, index=i, at=1.0 + i)
        for i, a in enumerate(said)
    ]
    return [started(trace=trace, span=1, name="agent", attributes=root_span), *events]


def moved(percent: float, index: int, trace: int = 1) -> list[Observation]:
    """Return a task that reported its progress."""
    root_span: dict[str, Any] = {"agent.task.name": "moving"}
    listed = an_event(
        trace=trace, span=1, name="moved", attributes={"agent.progress": percent}, index=index, at=1.0 + index
    )
    return [started(trace=trace, span=1, name="agent", attributes=root_span), listed]


__all__ = ["POSTED", "ROUTED_RULES", "SINK", "ExerciseStore", "MakeStore", "drain", "in_seconds", "moved", "steps"]
