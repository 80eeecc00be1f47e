"""Tests of stalled tasks in every store, as a class of tests: subclass it with a fixture named
`make_store`.

See `spanpost.testing.exercise_store`. The stall timeout is a fraction of a second here, and the store's own
clock runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Mode
from spanpost.model.observations import Observation, Part, log_index
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.routing.routes import Routes
from spanpost.store.protocols import Store
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import StallRules
from spanpost.testing.exercise_store import POSTED, SINK, MakeStore
from spanpost.testing.observed import an_event, ended, started

#: Long enough for a slow machine to do some steps of a test within it.
SHORT = timedelta(seconds=0.6)
LONG = timedelta(hours=1)
AGENT = {"agent.task.name": "job", "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}


def rules(**stall_rules: timedelta) -> FoldRules:
    """Return rules with this stall timeout, without any other limit."""
    return FoldRules(
        routes=Routes(sinks=(SINK,)),
        stall_rules=StallRules(**{"stall_after": LONG, "interrupt_after": LONG, **stall_rules}),
    )


def beat(
    *roots: tuple[int, int], seq: int, producer: str = "p1", ago: float = 0.0, interval: float = 0.01
) -> Observation:
    """Return a heartbeat that was sent `ago` seconds before now."""
    sent = Observation(
        part=Part.LOG,
        trace_id=b"",
        span_id=b"",
        name="agent.heartbeat",
        at_ns=time.time_ns() - int(ago * 1e9),
        attributes={
            "agent.open_roots": [f"{trace:032x}-{span:016x}" for trace, span in roots],
            "agent.heartbeat.interval": interval,
        },
        producer=producer,
        seq=seq,
    )
    return msgspec.structs.replace(sent, index=log_index(sent))


async def status(store: Store, name: str = "job") -> str:
    """Return the status of the task of that name, as it is now."""
    [task] = [t for t in await store.tasks(TaskQuery()) if t.name == name]
    return task.status


async def until(is_so: Callable[[], Awaitable[Any]], store: Store) -> None:
    """Wait until it is true.

    Time passes for the store, and each query of what is due is a sign of a running receiver.
    """
    async with asyncio.timeout(60):
        while not await is_so():
            if (await store.outbox.due_in()) == 0:
                await store.elapse()
            await asyncio.sleep(0.01)


async def checkpoints_of(store: Store, kind: Kind) -> list[Checkpoint]:
    """Return the checkpoints of a kind."""
    return [c for c in await store.reader.checkpoints() if c.kind is kind]


async def delivered(store: Store) -> list[str]:
    """Deliver what is due; return the statuses of states and the texts of checkpoints."""
    said = []
    while claimed := await store.outbox.claim([SINK], 10):
        for d in claimed:
            said.append(f"[{d.task.status}]" if d.mode is Mode.STATE or d.checkpoint is None else d.checkpoint.text)
            await store.outbox.finish(d, POSTED)
    return said


class ExerciseStall:
    """Tests of stalled tasks in every store."""

    # --- stalled -----------------------------------------------------------------------------------------------------

    async def test_a_task_without_telemetry_is_stalled(self, make_store: MakeStore) -> None:
        """A stalled task shows when it is read and in its message, makes one checkpoint each time, and
        continues with any activity.
        """
        store = await make_store(rules(stall_after=SHORT))
        await store.record([started(trace=1, span=1, name="agent", attributes=AGENT)])
        await delivered(store)
        for times in (1, 2):

            async def has_fallen_stalled(times: int = times) -> bool:
                return len(await checkpoints_of(store, Kind.STALLED)) == times

            await until(has_fallen_stalled, store)
            assert await status(store) == "stalled"
            assert [t.name for t in await store.tasks(TaskQuery(status="stalled"))] == ["job"]
            assert await store.tasks(TaskQuery(status="working")) == []
            said = await delivered(store)
            assert said[-1] == "[stalled]" or "[stalled]" in said
            assert any(text.startswith("No activity") for text in said)
            await store.elapse()
            assert len(await checkpoints_of(store, Kind.STALLED)) == times
            name = "agent.checkpoint"
            await store.record(
                [an_event(trace=1, span=1, name=name, index=times, attributes={"agent.progress": times}, at=times)]
            )
            assert await status(store) == "working"
            assert "[working]" in await delivered(store)

    async def test_a_waiting_or_ended_task_is_not_stalled(self, make_store: MakeStore) -> None:
        """A task that waits for a person, is paused or has ended is never stalled."""
        store = await make_store(rules(stall_after=SHORT))
        asked = {"agent.approval.id": "a1", "agent.approval.question": "go?"}
        await store.record(
            [
                started(trace=1, span=1, name="agent", attributes=AGENT | {"agent.task.name": "waits"}),
                an_event(trace=1, span=1, name="agent.approval.requested", index=0, attributes=asked),
                started(
                    trace=2,
                    span=2,
                    name="agent",
                    attributes=AGENT | {"agent.task.name": "rests", "agent.status": "paused"},
                ),
                ended(trace=3, span=3, name="agent", attributes=AGENT | {"agent.task.name": "is done"}),
                started(trace=4, span=4, name="agent", attributes=AGENT),
            ]
        )
        await until(lambda: checkpoints_of(store, Kind.STALLED), store)
        assert [await status(store, name) for name in ("waits", "rests", "is done")] == [
            "waiting",
            "paused",
            "complete",
        ]
        assert [c.task_uid for c in await checkpoints_of(store, Kind.STALLED)] == [(await _task(store, "job")).uid]

    async def test_a_task_with_an_open_call_is_not_stalled(self, make_store: MakeStore) -> None:
        """While a tool call is known to be open its task is not stalled; when the call has ended the task can be."""
        store = await make_store(rules(stall_after=SHORT))
        busy = AGENT | {"agent.task.name": "busy"}
        await store.record(
            [
                started(trace=1, span=1, name="agent", attributes=AGENT),
                started(trace=2, span=2, name="agent", attributes=busy),
                started(trace=2, span=3, parent=2, name="tool", attributes=TOOL),
            ]
        )
        await until(lambda: _is(store, "job", "stalled"), store)
        assert await status(store, "busy") == "working"
        await store.record([ended(trace=2, span=3, parent=2, name="tool", attributes=TOOL)])
        await until(lambda: _is(store, "busy", "stalled"), store)

    async def test_a_task_with_a_working_child_is_not_stalled(self, make_store: MakeStore) -> None:
        """A task whose sub-agent works is not stalled, even without telemetry of its own."""
        store = await make_store(rules(stall_after=SHORT))
        helper = AGENT | {"agent.task.name": "helper", "gen_ai.agent.name": "bob"}
        lead = AGENT | {"agent.task.name": "lead"}
        await store.record([started(trace=2, span=2, name="agent", attributes=lead)])
        await store.record([started(trace=2, span=3, parent=2, name="agent", attributes=helper)])
        await store.record([started(trace=1, span=1, name="agent", attributes=AGENT)])
        index = 0

        async def works_on() -> bool:
            nonlocal index
            index += 1
            await store.record([an_event(trace=2, span=3, name="agent.checkpoint", index=index, at=index)])
            return await status(store) == "stalled"

        await until(works_on, store)
        assert "stalled" not in (await status(store, "lead"), await status(store, "helper"))

    async def test_an_open_call_of_another_task_counts_for_nothing(self, make_store: MakeStore) -> None:
        """Of two tasks in one trace, neither above the other, the one without an open call is stalled."""
        store = await make_store(rules(stall_after=SHORT))
        for span, name in ((2, "busy"), (3, "idle")):
            await store.record(
                [started(trace=1, span=span, name="agent", attributes=AGENT | {"agent.task.name": name})]
            )
        await store.record([started(trace=1, span=4, parent=2, name="tool", attributes=TOOL)])
        await until(lambda: _is(store, "idle", "stalled"), store)
        assert await status(store, "busy") != "stalled"

    async def test_a_receiver_that_starts_restarts_every_stall_timeout(self, make_store: MakeStore) -> None:
        """A task whose telemetry could not be received is not stalled because of that."""
        store = await make_store(rules(stall_after=SHORT))
        await store.record([started(trace=1, span=1, name="agent", attributes=AGENT)])
        await until(lambda: _is(store, "job", "stalled"), store)
        await store.listen_anew()
        assert await status(store) == "starting"
        await until(lambda: _is(store, "job", "stalled"), store)

    # --- heartbeats --------------------------------------------------------------------------------------------------

    async def test_a_heartbeat_is_no_row_and_no_activity(self, make_store: MakeStore) -> None:
        """Heartbeats make no audit rows. A task in a process that lives is stalled when it does nothing."""
        store = await make_store(rules(stall_after=SHORT))
        lives = AGENT | {"agent.task.name": "lives"}
        await store.record([started(trace=1, span=1, name="agent", attributes=AGENT)])
        await store.record([started(trace=2, span=2, name="agent", attributes=lives)])
        rows = (await store.counts())["agent_events"]
        seq = 0

        async def beats_on() -> bool:
            nonlocal seq
            seq += 1
            recorded = await store.record([beat((2, 2), seq=seq)])
            assert (recorded.events, recorded.duplicates, recorded.dropped) == (0, 0, {})
            return await status(store) == await status(store, "lives") == "stalled"

        await until(beats_on, store)
        assert (await store.counts())["agent_events"] == rows

    async def test_a_process_whose_heartbeats_stop_has_interrupted_its_tasks(self, make_store: MakeStore) -> None:
        """Its open tasks end as interrupted, which is concluded and not reported, with one checkpoint each;
        other tasks go on.
        """
        store = await make_store(rules(interrupt_after=SHORT))
        other = AGENT | {"agent.task.name": "other"}
        await store.record([started(trace=1, span=1, name="agent", attributes=AGENT), beat((1, 1), seq=1)])
        await store.record(
            [
                started(trace=2, span=2, name="agent", attributes=other),
                beat((2, 2), seq=1, producer="p2", interval=3600),
            ]
        )
        await until(lambda: _is(store, "job", "error"), store)
        task = await _task(store, "job")
        assert (task.end_reason, task.is_inferred) == ("interrupted", True)
        assert task.ended_at is not None
        assert await status(store, "other") == "starting"
        assert [c.status for c in await checkpoints_of(store, Kind.END)] == ["error"]
        await store.elapse()
        assert len(await checkpoints_of(store, Kind.END)) == 1

    async def test_a_task_below_another_span_is_interrupted_with_its_trace(self, make_store: MakeStore) -> None:
        """The root that a process names may be a request.

        The task below it is interrupted if no other process has its trace.
        """
        store = await make_store(rules(interrupt_after=SHORT))
        http = {"http.request.method": "POST"}
        await store.record([started(trace=1, span=9, name="POST /run", attributes=http)])
        await store.record([started(trace=1, span=1, parent=9, name="agent", attributes=AGENT), beat((1, 9), seq=1)])
        await until(lambda: _is(store, "job", "error"), store)

    async def test_a_late_end_takes_an_interruption_back(self, make_store: MakeStore) -> None:
        """The task's own report of its end takes precedence over a conclusion, whenever it arrives."""
        store = await make_store(rules(interrupt_after=SHORT))
        await store.record([started(trace=1, span=1, name="agent", attributes=AGENT), beat((1, 1), seq=1)])
        await until(lambda: _is(store, "job", "error"), store)
        await store.record([ended(trace=1, span=1, name="agent", attributes=AGENT)])
        task = await _task(store, "job")
        assert (task.status, task.end_reason, task.error) == ("complete", "complete", None)
        assert [c.status for c in await checkpoints_of(store, Kind.END)] == ["complete"]

    async def test_a_process_that_recovers_takes_an_interruption_back(self, make_store: MakeStore) -> None:
        """After a partition the heartbeats continue: the task goes on, and can be interrupted once more."""
        store = await make_store(rules(interrupt_after=SHORT))
        await store.record([started(trace=1, span=1, name="agent", attributes=AGENT), beat((1, 1), seq=1)])
        await until(lambda: _is(store, "job", "error"), store)
        await store.record([beat((1, 1), seq=2)])
        task = await _task(store, "job")
        assert (task.status, task.ended_at, task.end_reason) == ("working", None, None)
        assert await checkpoints_of(store, Kind.END) == []
        await until(lambda: _is(store, "job", "error"), store)
        assert len(await checkpoints_of(store, Kind.END)) == 1

    async def test_a_backlog_of_heartbeats_revives_no_task(self, make_store: MakeStore) -> None:
        """Heartbeats that waited in a Collector count for the time when they were sent; older ones than the
        newest change nothing.
        """
        store = await make_store(rules(interrupt_after=SHORT))
        await store.record([started(trace=1, span=1, name="agent", attributes=AGENT), beat((1, 1), seq=5)])
        before = time.time_ns()
        await until(lambda: _is(store, "job", "error"), store)
        ago = (time.time_ns() - before) / 1e9
        for late in (beat((1, 1), seq=4), beat((1, 1), seq=6, ago=ago + 0.01), beat((1, 1), seq=5)):
            await store.record([late])
            task = await _task(store, "job")
            assert (task.status, task.end_reason) == ("error", "interrupted")

    async def test_a_run_that_is_interrupted_and_ends_after_all_is_counted_once(self, make_store: MakeStore) -> None:
        """Counters cannot go back: interrupted, recovered and ended is one end.

        A run that starts anew ends once more.
        """
        store = await make_store(rules(interrupt_after=SHORT))
        counted = 0
        root_span = AGENT | {"agent.task.id": "j"}
        await store.record([started(trace=1, span=1, name="agent", attributes=root_span), beat((1, 1), seq=1)])
        async with asyncio.timeout(60):
            while True:
                counted += len((await store.elapse()).ended)
                if await _is(store, "job", "error"):
                    break
                await asyncio.sleep(0.01)
        assert counted == 1
        again = an_event(trace=1, span=1, name="agent.checkpoint", index=1, at=50_000)
        for batch in ([again], [ended(trace=1, span=1, name="agent", attributes=root_span, seconds=60_000)]):
            counted += len((await store.record(batch)).ended)
        assert (await status(store), counted) == ("complete", 1)
        more = ended(trace=2, span=1, name="agent", attributes=root_span, at=70_000)
        assert len((await store.record([more])).ended) == 1

    async def test_duplicate_heartbeats_change_nothing(self, make_store: MakeStore) -> None:
        """A batch of heartbeats of many processes, repeated and in any order, counts each process's newest."""
        store = await make_store(rules())
        beats = [beat((1, 1), seq=n, producer=f"p{n % 3}") for n in range(1, 9)]
        await store.record([*reversed(beats), *beats])
        again = await store.record(beats)
        assert (again.events, again.tasks, again.checkpoints) == (0, [], [])

    async def test_a_heartbeat_of_any_sort_harms_nothing(self, make_store: MakeStore) -> None:
        """Odd intervals, roots and producers are accepted or ignored; the other observations are recorded."""
        store = await make_store(rules(interrupt_after=SHORT))
        good = started(trace=1, span=1, name="agent", attributes=AGENT)
        odd = [
            {"agent.heartbeat.interval": float("nan")},
            {"agent.heartbeat.interval": -1, "agent.open_roots": "no list"},
            {"agent.heartbeat.interval": 1e300, "agent.open_roots": [None, "x-y", 7]},
            {"agent.heartbeat.interval": "often", "agent.open_roots": []},
            {"agent.open_roots": [f"{1:032x}-{1:016x}"] * 3000},
        ]
        beats = [
            msgspec.structs.replace(beat(seq=n), attributes=attributes, producer=f"odd\u00e9 {n}", at_ns=at)
            for n, attributes in enumerate(odd)
            for at in (0, 1, 2**63 - 1)
        ]
        recorded = await store.record([good, *beats])
        assert recorded.events == 1
        await store.elapse()
        assert await status(store) in ("starting", "working", "error")


async def _task(store: Store, name: str) -> Task:
    [task] = [t for t in await store.tasks(TaskQuery()) if t.name == name]
    return task


async def _is(store: Store, name: str, word: str) -> bool:
    return await status(store, name) == word
