"""What every ledger makes of silence, as a class of tests: subclass it and give it a fixture named `make_ledger` (see
`spanpost.testing.exercise_ledger`). Patience is a fraction of a second here, and the ledger's own clock runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec

from spanpost.domain.checkpoints import Checkpoint, Kind
from spanpost.domain.deliveries import Mode
from spanpost.domain.observations import Observation, Part, log_index
from spanpost.domain.tasks import Task
from spanpost.fold.batch import Rules
from spanpost.fold.routes import Routes
from spanpost.fold.silence import Patience
from spanpost.ledger.base import Ledger, TaskQuery
from spanpost.testing.exercise_ledger import POSTED, SINK, MakeLedger
from spanpost.testing.observed import an_event, ended, started

#: Long enough for a slow machine to do some steps of a test within it.
SHORT = timedelta(seconds=0.6)
LONG = timedelta(hours=1)
AGENT = {"agent.task.name": "job", "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}


def rules(**patience: timedelta) -> Rules:
    """Return rules with this patience, endless in the rest."""
    return Rules(routes=Routes(sinks=(SINK,)), patience=Patience(**{"stall": LONG, "gone": LONG, **patience}))


def beat(*roots: tuple[int, int], seq: int, producer: str = "p1", ago: float = 0.0, interval: float = 0.01) -> Observation:
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


async def status(ledger: Ledger, name: str = "job") -> str:
    """Return the status of the task of that name, as it is now."""
    [task] = [t for t in await ledger.tasks(TaskQuery()) if t.name == name]
    return task.status


async def until(is_so: Callable[[], Awaitable[Any]], ledger: Ledger) -> None:
    """Wait until it is so, letting time pass for the ledger; asking it what is due is how somebody listens."""
    async with asyncio.timeout(60):
        while not await is_so():
            if (await ledger.due_in()) == 0:
                await ledger.elapse()
            await asyncio.sleep(0.01)


async def told(ledger: Ledger, kind: Kind) -> list[Checkpoint]:
    """Return the checkpoints of a kind."""
    return [c for c in await ledger.checkpoints() if c.kind is kind]


async def delivered(ledger: Ledger) -> list[str]:
    """Deliver what is due; return statuses of states and texts of news."""
    said = []
    while claimed := await ledger.claim([SINK], 10):
        for d in claimed:
            said.append(f"[{d.task.status}]" if d.mode is Mode.STATE or d.checkpoint is None else d.checkpoint.text)
            await ledger.settle(d, POSTED)
    return said


class ExerciseSilence:
    """What every ledger does about silence."""

    # --- stalled ------------------------------------------------------------------------------------------------------

    async def test_a_task_that_falls_silent_is_stalled_until_it_is_heard(self, make_ledger: MakeLedger) -> None:
        """Silence shows when the task is read and in its message, is told once each time, and ends with any activity."""
        ledger = await make_ledger(rules(stall=SHORT))
        await ledger.record([started(trace=1, span=1, name="agent", attributes=AGENT)])
        await delivered(ledger)
        for times in (1, 2):

            async def has_fallen_silent(times: int = times) -> bool:
                return len(await told(ledger, Kind.STALLED)) == times

            await until(has_fallen_silent, ledger)
            assert await status(ledger) == "stalled"
            assert [t.name for t in await ledger.tasks(TaskQuery(status="stalled"))] == ["job"]
            assert await ledger.tasks(TaskQuery(status="working")) == []
            said = await delivered(ledger)
            assert said[-1] == "[stalled]" or "[stalled]" in said
            assert any(text.startswith("Nothing heard") for text in said)
            await ledger.elapse()
            assert len(await told(ledger, Kind.STALLED)) == times
            name = "agent.checkpoint"
            await ledger.record([an_event(trace=1, span=1, name=name, index=times, attributes={"agent.progress": times}, at=times)])
            assert await status(ledger) == "working"
            assert "[working]" in await delivered(ledger)

    async def test_who_waits_or_is_done_is_not_stalled(self, make_ledger: MakeLedger) -> None:
        """A task that waits for a person, is paused or has ended may be silent."""
        ledger = await make_ledger(rules(stall=SHORT))
        asked = {"agent.approval.id": "a1", "agent.approval.question": "go?"}
        await ledger.record(
            [
                started(trace=1, span=1, name="agent", attributes=AGENT | {"agent.task.name": "waits"}),
                an_event(trace=1, span=1, name="agent.approval.requested", index=0, attributes=asked),
                started(trace=2, span=2, name="agent", attributes=AGENT | {"agent.task.name": "rests", "agent.status": "paused"}),
                ended(trace=3, span=3, name="agent", attributes=AGENT | {"agent.task.name": "is done"}),
                started(trace=4, span=4, name="agent", attributes=AGENT),
            ]
        )
        await until(lambda: told(ledger, Kind.STALLED), ledger)
        assert [await status(ledger, name) for name in ("waits", "rests", "is done")] == ["waiting", "paused", "complete"]
        assert [c.task_uid for c in await told(ledger, Kind.STALLED)] == [(await _task(ledger, "job")).uid]

    async def test_an_open_call_explains_silence(self, make_ledger: MakeLedger) -> None:
        """While a tool call is known to be open its task is not stalled; when it has ended the task can be."""
        ledger = await make_ledger(rules(stall=SHORT))
        busy = AGENT | {"agent.task.name": "busy"}
        await ledger.record(
            [
                started(trace=1, span=1, name="agent", attributes=AGENT),
                started(trace=2, span=2, name="agent", attributes=busy),
                started(trace=2, span=3, parent=2, name="tool", attributes=TOOL),
            ]
        )
        await until(lambda: _is(ledger, "job", "stalled"), ledger)
        assert await status(ledger, "busy") == "working"
        await ledger.record([ended(trace=2, span=3, parent=2, name="tool", attributes=TOOL)])
        await until(lambda: _is(ledger, "busy", "stalled"), ledger)

    async def test_a_task_is_heard_by_what_works_below_it(self, make_ledger: MakeLedger) -> None:
        """A task whose sub-agent works is not stalled, however silent it is itself."""
        ledger = await make_ledger(rules(stall=SHORT))
        helper = AGENT | {"agent.task.name": "helper", "gen_ai.agent.name": "bob"}
        lead = AGENT | {"agent.task.name": "lead"}
        await ledger.record([started(trace=2, span=2, name="agent", attributes=lead)])
        await ledger.record([started(trace=2, span=3, parent=2, name="agent", attributes=helper)])
        await ledger.record([started(trace=1, span=1, name="agent", attributes=AGENT)])
        index = 0

        async def works_on() -> bool:
            nonlocal index
            index += 1
            await ledger.record([an_event(trace=2, span=3, name="agent.checkpoint", index=index, at=index)])
            return await status(ledger) == "stalled"

        await until(works_on, ledger)
        assert "stalled" not in (await status(ledger, "lead"), await status(ledger, "helper"))

    async def test_a_call_that_is_open_elsewhere_explains_nothing(self, make_ledger: MakeLedger) -> None:
        """Of two tasks in one trace, neither above the other, the one without an open call falls silent."""
        ledger = await make_ledger(rules(stall=SHORT))
        for span, name in ((2, "busy"), (3, "idle")):
            await ledger.record([started(trace=1, span=span, name="agent", attributes=AGENT | {"agent.task.name": name})])
        await ledger.record([started(trace=1, span=4, parent=2, name="tool", attributes=TOOL)])
        await until(lambda: _is(ledger, "idle", "stalled"), ledger)
        assert await status(ledger, "busy") != "stalled"

    async def test_a_door_that_opens_gives_everybody_a_full_patience(self, make_ledger: MakeLedger) -> None:
        """Who could not be heard before is not stalled because of that."""
        ledger = await make_ledger(rules(stall=SHORT))
        await ledger.record([started(trace=1, span=1, name="agent", attributes=AGENT)])
        await until(lambda: _is(ledger, "job", "stalled"), ledger)
        await ledger.listen_anew()
        assert await status(ledger) == "starting"
        await until(lambda: _is(ledger, "job", "stalled"), ledger)

    # --- heartbeats ---------------------------------------------------------------------------------------------------

    async def test_a_heartbeat_is_no_row_and_keeps_its_tasks_alive(self, make_ledger: MakeLedger) -> None:
        """Heartbeats leave nothing in the audit; the tasks that they name are not stalled, others are."""
        ledger = await make_ledger(rules(stall=SHORT))
        lives = AGENT | {"agent.task.name": "lives"}
        await ledger.record([started(trace=1, span=1, name="agent", attributes=AGENT)])
        await ledger.record([started(trace=2, span=2, name="agent", attributes=lives)])
        rows = (await ledger.counts())["agent_events"]
        seq = 0

        async def beats_on() -> bool:
            nonlocal seq
            seq += 1
            recorded = await ledger.record([beat((2, 2), seq=seq)])
            assert (recorded.events, recorded.repeats, recorded.lost) == (0, 0, {})
            return await status(ledger) == "stalled"

        await until(beats_on, ledger)
        assert await status(ledger, "lives") == "starting"
        assert (await ledger.counts())["agent_events"] == rows

    async def test_a_process_whose_heartbeats_stop_has_interrupted_its_tasks(self, make_ledger: MakeLedger) -> None:
        """Its open tasks end as interrupted, concluded and not said, and are told so once; others live."""
        ledger = await make_ledger(rules(gone=SHORT))
        other = AGENT | {"agent.task.name": "other"}
        await ledger.record([started(trace=1, span=1, name="agent", attributes=AGENT), beat((1, 1), seq=1)])
        await ledger.record(
            [started(trace=2, span=2, name="agent", attributes=other), beat((2, 2), seq=1, producer="p2", interval=3600)]
        )
        await until(lambda: _is(ledger, "job", "error"), ledger)
        task = await _task(ledger, "job")
        assert (task.end_reason, task.is_inferred) == ("interrupted", True)
        assert task.ended_at is not None
        assert await status(ledger, "other") == "starting"
        assert [c.status for c in await told(ledger, Kind.END)] == ["error"]
        await ledger.elapse()
        assert len(await told(ledger, Kind.END)) == 1

    async def test_a_box_below_another_span_is_interrupted_with_its_trace(self, make_ledger: MakeLedger) -> None:
        """The root that a process names may be a request; the task below it is interrupted when nobody else has its trace."""
        ledger = await make_ledger(rules(gone=SHORT))
        http = {"http.request.method": "POST"}
        await ledger.record([started(trace=1, span=9, name="POST /run", attributes=http)])
        await ledger.record([started(trace=1, span=1, parent=9, name="agent", attributes=AGENT), beat((1, 9), seq=1)])
        await until(lambda: _is(ledger, "job", "error"), ledger)

    async def test_a_late_end_takes_an_interruption_back(self, make_ledger: MakeLedger) -> None:
        """What the task itself says of its end stands above what was concluded, whenever it comes."""
        ledger = await make_ledger(rules(gone=SHORT))
        await ledger.record([started(trace=1, span=1, name="agent", attributes=AGENT), beat((1, 1), seq=1)])
        await until(lambda: _is(ledger, "job", "error"), ledger)
        await ledger.record([ended(trace=1, span=1, name="agent", attributes=AGENT)])
        task = await _task(ledger, "job")
        assert (task.status, task.end_reason, task.error) == ("complete", "complete", None)
        assert [c.status for c in await told(ledger, Kind.END)] == ["complete"]

    async def test_a_process_that_is_heard_again_takes_it_back(self, make_ledger: MakeLedger) -> None:
        """After a partition the heartbeats go on: the task lives again, and can be interrupted once more."""
        ledger = await make_ledger(rules(gone=SHORT))
        await ledger.record([started(trace=1, span=1, name="agent", attributes=AGENT), beat((1, 1), seq=1)])
        await until(lambda: _is(ledger, "job", "error"), ledger)
        await ledger.record([beat((1, 1), seq=2)])
        task = await _task(ledger, "job")
        assert (task.status, task.ended_at, task.end_reason) == ("working", None, None)
        assert await told(ledger, Kind.END) == []
        await until(lambda: _is(ledger, "job", "error"), ledger)
        assert len(await told(ledger, Kind.END)) == 1

    async def test_a_backlog_revives_nobody(self, make_ledger: MakeLedger) -> None:
        """Heartbeats that waited in a Collector tell of the time when they were sent; older ones than the newest are nothing."""
        ledger = await make_ledger(rules(gone=SHORT))
        await ledger.record([started(trace=1, span=1, name="agent", attributes=AGENT), beat((1, 1), seq=5)])
        before = time.time_ns()
        await until(lambda: _is(ledger, "job", "error"), ledger)
        ago = (time.time_ns() - before) / 1e9
        for late in (beat((1, 1), seq=4), beat((1, 1), seq=6, ago=ago + 0.01), beat((1, 1), seq=5)):
            await ledger.record([late])
            task = await _task(ledger, "job")
            assert (task.status, task.end_reason) == ("error", "interrupted")

    async def test_a_run_that_is_interrupted_and_ends_after_all_is_counted_once(self, make_ledger: MakeLedger) -> None:
        """Counters cannot take back: interrupted, heard again and ended is one end; a run that begins anew ends once more."""
        ledger = await make_ledger(rules(gone=SHORT))
        counted = 0
        box = AGENT | {"agent.task.id": "j"}
        await ledger.record([started(trace=1, span=1, name="agent", attributes=box), beat((1, 1), seq=1)])
        async with asyncio.timeout(60):
            while True:
                counted += len((await ledger.elapse()).ended)
                if await _is(ledger, "job", "error"):
                    break
                await asyncio.sleep(0.01)
        assert counted == 1
        again = an_event(trace=1, span=1, name="agent.checkpoint", index=1, at=50_000)
        for batch in ([again], [ended(trace=1, span=1, name="agent", attributes=box, seconds=60_000)]):
            counted += len((await ledger.record(batch)).ended)
        assert (await status(ledger), counted) == ("complete", 1)
        more = ended(trace=2, span=1, name="agent", attributes=box, at=70_000)
        assert len((await ledger.record([more])).ended) == 1

    async def test_a_heartbeat_that_comes_again_is_nothing_new(self, make_ledger: MakeLedger) -> None:
        """A batch of heartbeats of many processes, repeated and in any order, counts each process's newest."""
        ledger = await make_ledger(rules())
        beats = [beat((1, 1), seq=n, producer=f"p{n % 3}") for n in range(1, 9)]
        await ledger.record([*reversed(beats), *beats])
        again = await ledger.record(beats)
        assert (again.events, again.tasks, again.checkpoints) == (0, [], [])

    async def test_a_heartbeat_of_any_sort_harms_nothing(self, make_ledger: MakeLedger) -> None:
        """Odd intervals, roots and producers are taken as they are or not at all; what is beside them is recorded."""
        ledger = await make_ledger(rules(gone=SHORT))
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
        recorded = await ledger.record([good, *beats])
        assert recorded.events == 1
        await ledger.elapse()
        assert await status(ledger) in ("starting", "working", "error")


async def _task(ledger: Ledger, name: str) -> Task:
    [task] = [t for t in await ledger.tasks(TaskQuery()) if t.name == name]
    return task


async def _is(ledger: Ledger, name: str, word: str) -> bool:
    return await status(ledger, name) == word
