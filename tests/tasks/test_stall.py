"""Stalled tasks: what heartbeats mean in any order, and the state of a task without telemetry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost import semconv as c
from spanpost.model.observations import Observation, Part
from spanpost.model.tasks import Task
from spanpost.tasks import batches, stall
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import Producer, StallRules
from spanpost.testing.observed import an_event, ended, started
from tests.tasks.histories import NOW, Twin

AGENT = {"agent.task.name": "job", "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}
BASE = 1_790_000_000 * 10**9
STALL_RULES = StallRules(stall_after=timedelta(minutes=5), interrupt_after=timedelta(seconds=60))


def beat(seq: int, at_ns: int, roots: tuple[str, ...] = ()) -> Observation:
    attributes = {c.OPEN_ROOTS: list(roots), c.HEARTBEAT_INTERVAL: 10}
    return Observation(
        part=Part.LOG,
        trace_id=b"",
        span_id=b"",
        name=c.EVENT_HEARTBEAT,
        at_ns=at_ns,
        attributes=attributes,
        producer="p",
        seq=seq,
    )


def now_of(seconds: float) -> datetime:
    return datetime.fromtimestamp(BASE / 10**9, UTC) + timedelta(seconds=seconds)


_beats = st.lists(st.tuples(st.integers(0, 20), st.floats(-50, 50), st.floats(0, 200)), min_size=1, max_size=12)


@given(_beats)
def test_heartbeats_in_any_order_leave_the_newest(sent: list[tuple[int, float, float]]) -> None:
    """In any order the newest heartbeat stands; no process was last seen in the future, or earlier than before."""
    known: Producer | None = None
    for at, (seq, skew, when) in enumerate(sent):
        now = now_of(when + at)
        newer = stall.hear(known, beat(seq, BASE + int((seq + skew) * 1e9)), now)
        if newer is None:
            assert known is not None
            continue
        if known is not None:
            assert (newer.seq, newer.at_ns) > (known.seq, known.at_ns)
            assert newer.last_seen_at >= known.last_seen_at
            assert newer.lag <= known.lag
        assert newer.last_seen_at <= max(now, known.last_seen_at if known is not None else now)
        known = newer
    assert known is not None
    assert (known.seq, known.at_ns) == max((seq, BASE + int((seq + skew) * 1e9)) for seq, skew, _ in sent)


@given(st.floats(-86_400, 86_400), st.integers(1, 30))
def test_a_process_with_a_wrong_clock_is_not_stalled(skew: float, beats: int) -> None:
    """A process whose clock is hours off was last seen when its heartbeats arrived."""
    known: Producer | None = None
    for n in range(beats):
        known = stall.hear(known, beat(n, BASE + int((n * 10 + skew) * 1e9)), now_of(n * 10 + 0.1))
    assert known is not None
    assert abs((known.last_seen_at - now_of((beats - 1) * 10 + 0.1)).total_seconds()) < 0.2


def test_a_backlog_counts_at_the_time_it_was_sent() -> None:
    """Heartbeats of a known process that arrive an hour late show that it lived an hour ago."""
    known = stall.hear(None, beat(1, BASE), now_of(0.1))
    late = stall.hear(known, beat(2, BASE + 10 * 10**9), now_of(3600))
    assert late is not None
    assert (late.last_seen_at - now_of(10.1)).total_seconds() == pytest.approx(0, abs=1e-3)


def test_three_heartbeats_may_be_missed() -> None:
    """A process with long intervals is given three of them, one with short ones the timeout of the settings."""
    producer = stall.hear(None, beat(1, BASE), now_of(0))
    assert producer is not None
    assert stall.gone_after(producer, STALL_RULES) == timedelta(seconds=60)
    slow = msgspec.structs.replace(producer, interval=timedelta(minutes=5))
    assert stall.gone_after(slow, STALL_RULES) == timedelta(minutes=15)


def task(**known: object) -> Task:
    return Task(uid=UUID(int=1), tenant="default", task_id="t", **known)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", c.STATUSES)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_only_a_working_task_without_telemetry_is_stalled(
    status: str, quiet: int, is_over: bool, has_open_call: bool
) -> None:
    """The phase is the status; a working task with no open call and no telemetry for five minutes is stalled."""
    now = now_of(0)
    one = task(status=status, ended_at=now if is_over else None)
    found = stall.phase(one, now - timedelta(seconds=quiet), now, STALL_RULES, has_open_call=has_open_call)
    works = status in (c.STARTING, c.WORKING, c.CONTEXT_WARNING)
    is_stalled = works and not is_over and not has_open_call and quiet >= 300
    assert found == (c.STALLED if is_stalled else status)


def history() -> list[Observation]:
    """Return a run that is interrupted, revived, interrupted again and ended after all."""
    root_span = started(trace=1, span=1, name="agent", attributes=AGENT, at=0)
    one = Twin(FoldRules())
    one.record(batches.prepare([root_span]))
    [known] = one.tasks.values()
    producer = Producer(
        tenant="default",
        producer="p",
        seq=1,
        at_ns=root_span.at_ns,
        last_seen_at=NOW,
        lag=timedelta(0),
        interval=timedelta(0),
        roots=((root_span.trace_id, root_span.span_id),),
    )
    stalled = stall.silenced(known, producer, STALL_RULES)
    again = msgspec.structs.replace(producer, seq=2, at_ns=root_span.at_ns + 90 * 10**9)
    revived = stall.revived(msgspec.structs.replace(known, end_reason="interrupted"), again)
    stalled_again = stall.silenced(known, again, STALL_RULES)
    assert stalled is not None
    assert revived is not None
    assert stalled_again is not None
    return [
        root_span,
        stalled,
        revived,
        stalled_again,
        ended(trace=1, span=1, name="agent", attributes=AGENT, at=0, seconds=400.0),
    ]


def statuses(observations: list[Observation]) -> list[tuple[str, str | None]]:
    twin = Twin(FoldRules())
    out = []
    for o in observations:
        twin.record(batches.prepare([o]))
        [known] = twin.tasks.values() or [task(status="none")]
        out.append((known.status, known.end_reason))
    return out


def test_a_stall_and_what_revokes_it() -> None:
    """A run is interrupted, revived and interrupted again; the task's own end stands above it all."""
    assert statuses(history()) == [
        ("starting", None),
        ("error", "interrupted"),
        ("working", None),
        ("error", "interrupted"),
        ("complete", "complete"),
    ]


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_any_order_comes_to_the_same(size: int) -> None:
    """The first records of that history give the same status in every order, also with repeats."""
    records = history()[:size]
    expected = statuses(records)[-1]
    for order in permutations(records):
        assert statuses([*order, order[0]])[-1] == expected


def test_activity_after_the_stall_revokes_it_and_activity_before_does_not() -> None:
    """A report from after the stall revokes it; a late report from before the stall does not."""
    root_span, stalled, *_ = history()
    before = an_event(trace=1, span=1, name="agent.checkpoint", index=0, at=50)
    after = an_event(trace=1, span=1, name="agent.checkpoint", index=1, at=70)
    assert statuses([root_span, stalled, before])[-1] == ("error", "interrupted")
    assert statuses([root_span, stalled, before, after])[-1] == ("working", None)


def test_the_fold_needs_no_clock_for_it() -> None:
    """The records of one heartbeat are the same for every maker and at every time."""
    assert history() == history()
