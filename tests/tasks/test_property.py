"""The property of the fold: any order and any repetition gives the same tasks and the same reported checkpoints."""

from __future__ import annotations

import os
from collections import Counter
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.observations import Part
from spanpost.model.readings import Role
from spanpost.tasks import batches
from tests.tasks.against_oracle import compared, outcome_of
from tests.tasks.histories import deep, feed, history, placed, resumptions
from tests.tasks.torn_histories import ROUTED, served, torn
from tests.thorough import IS_THOROUGH, by_seeds

#: Histories tried. A laptop tries fewer; for many more: SPANPOST_HISTORIES=10000, and pytest --timeout=0.
HISTORIES = int(os.environ.get("SPANPOST_HISTORIES") or ("400" if IS_THOROUGH else "100"))


@pytest.mark.slow
@pytest.mark.proves("each-call-once", "random-orders")
@pytest.mark.proves("any-order", "random-orders", "out-of-order")
@by_seeds(
    HISTORIES,
    (30380, 0),  # tasks in a circle, of which none announces itself
    (4048, 0),  # a task that hangs below such a circle
    (1595511321, 2**32 - 1),  # an exception in a task that a span names before a run of it is known
    (22460, 1646605573),  # a run taken for a later one until the root span above it came
    (26696, 1),  # a task that two traces name, and of which no run is known in either
    (259115, 259113),  # two runs that began at once and link to one another
)
def test_any_order_and_repetition_gives_the_same_tasks_and_the_same_checkpoints(seed: int, order: int) -> None:
    """A history, in order or shuffled, repeated and in batches, gives the oracle's rows in every field."""
    assert compared(history(Random(seed)), Random(order)) == []


@pytest.mark.slow
@pytest.mark.proves("any-order", "random-orders")
@by_seeds(HISTORIES)
def test_runs_that_go_on_with_one_another_are_joined_in_any_order(seed: int, order: int) -> None:
    """Runs of a conversation and of a team's messages give the oracle's tasks, in any order."""
    assert compared(resumptions(Random(seed)), Random(order)) == []


@pytest.mark.slow
@pytest.mark.proves("any-order", "cycles")
@by_seeds(
    max(30, HISTORIES // 5),
    (700129790, 915251480),  # tasks more levels below the topmost than are followed
)
def test_what_is_deeper_than_is_followed_comes_to_the_same_in_any_order(seed: int, order: int) -> None:
    """Chains far deeper than the limit, and circles, give the oracle's tasks and figures, in any order."""
    assert compared(deep(Random(seed)), Random(order)) == []


@pytest.mark.slow
@pytest.mark.proves("any-order", "random-orders")
@by_seeds(
    max(60, HISTORIES // 2),
    (6980, 6582),  # an answer on a call that is not known, then its start elsewhere, and its end
    (100243, 701702),  # a call that is reported later as a step
    (2003439, 0),  # a pause of a task that a span outside names, too
    (2004539, 2606259),  # a circle of starts, that an end opens
    (13181, 1219),  # a task that is only named, in two traces: the earlier one is known last
    (101237, 708660),  # a pause of a call that is not known, whose start hangs elsewhere
    (677945086, 1249190530),  # a task whose only tool call turns out to be a step: it is not shown
    (2577611916, 2495099299),  # a call whose start alone hung below the trace's top, which ended
    (2011080, 2612800),  # a step of which this is so
    (907001492, 1618862933),  # a started call below a call whose start hung elsewhere
    (94756984, 276899417),  # another, whose call ends below no known task
    (3904008720, 2896321522),  # two names below a root span that comes later, then one
    (429410525, 889331124),  # a start below a call whose end hangs elsewhere
    (2514917889, 2117361401),  # the only call below the top of a trace ends elsewhere
    (1996677614, 500840635),  # a lone call whose end says that it is part of another
    (315853047, 3563916542),  # the same, and the other call is in another task
    (21950, 1950),  # a start that alone named the conversation of the run, and hung elsewhere than its end
)
def test_torn_histories_come_to_what_the_oracle_makes_of_them(seed: int, order: int) -> None:
    """Moved starts, copies under other roles, acts of people and prices give the oracle's rows, in any order."""
    assert compared(torn(Random(seed)), Random(order), ROUTED) == []


@pytest.mark.slow
@by_seeds(
    max(40, HISTORIES // 10),
    (5120, 120),  # an agent below another's tool call, whose request is known last
    (1029, 29),  # a message without a name below a request
    (21950, 1950),  # a start that alone named the conversation of the run, and hung elsewhere than its end
)
def test_requests_and_conversations_come_to_the_same_in_any_order(seed: int, order: int) -> None:
    """Histories, conversations and torn ones, in requests and messages of queues, give the oracle's rows."""
    for maker in (torn, history, resumptions):
        random = Random(seed)
        assert compared(served(random, maker(random)), Random(order), ROUTED) == []


@given(seed=st.integers(0, 2**32), most=st.integers(1, 12))
def test_parts_of_a_batch_hold_it_whole_and_no_trace_is_torn(seed: int, most: int) -> None:
    """Each observation and each trace is in one part; only one trace alone makes a part touch more than allowed."""
    sent = history(Random(seed))
    found = batches.parts(sent, most)
    parts = [part for part, _ in found]
    assert sorted(i for part in parts for i in part) == list(range(len(sent)))
    traces = [{sent[i].domain for i in part} for part in parts]
    assert sum(map(len, traces)) == len({p.domain for p in sent})
    assert [touched for _, touched in found] == [batches.domains([sent[i] for i in part]) for part in parts]
    assert all(len(touched) <= most for (_, touched), of in zip(found, traces, strict=True) if len(of) > 1)


@pytest.mark.proves("judged-once", "random-orders")
@by_seeds(
    HISTORIES,
    (604657, 604657),  # a task that was part of another between two of its calls
)
def test_no_order_reports_a_judged_checkpoint_twice(seed: int, order: int) -> None:
    """Each context warning and each compaction is reported at most once, in any order."""
    mixed = feed(history(Random(seed)), Random(order))
    assert len(mixed.judged) == len(set(mixed.judged))


@pytest.mark.slow
@pytest.mark.proves("counters", "random-orders")
@by_seeds(HISTORIES)
def test_counters_grow_by_the_oracle_s_figures(seed: int, order: int) -> None:
    """Counters get the oracle's figures by model and by task, also when calls moved between tasks."""
    sent = history(Random(seed))
    twin = feed(sent, Random(order))
    for _ in range(3):  # tasks that are announced after a delay
        twin.elapse()
    by_model: Counter[str] = Counter()
    by_task: Counter[UUID] = Counter()
    for one in twin.used:
        by_model.update({f"calls of {one.model}": one.calls, f"input of {one.model}": one.usage.input or 0})
        by_task[one.task_uid] += one.usage.input or 0
    expected = outcome_of(sent, twin.rules)
    assert +by_task == expected.by_task
    assert {name: n for name, n in by_model.items() if n} == expected.by_model


@pytest.mark.slow
@pytest.mark.proves("counters", "random-orders")
@by_seeds(HISTORIES)
def test_a_repeated_history_is_nothing_new(seed: int, order: int) -> None:
    """Folding everything a second time changes no task and reports nothing."""
    sent = history(Random(seed))
    twin = feed(sent, Random(order))
    before = twin.outcome()
    again = twin.record(sent)
    assert (again.tasks, again.checkpoints) == ([], [])
    assert twin.outcome() == before


def test_resumptions_are_joined_by_each_rule() -> None:
    """The random conversations hold runs joined by a tool call, by conversation and by links: runs and child tasks."""
    joined, below = 0, 0
    for seed in range(60):
        tasks = feed(resumptions(Random(seed)), None).tasks.values()
        joined += sum(t.runs > 1 for t in tasks)
        below += sum(t.parent_uid is not None for t in tasks)
    assert joined > 20
    assert below > 5


def test_histories_hold_what_the_property_is_about() -> None:
    """The random histories hold stacked calls, shared response ids, lost parents and late root spans."""
    seen: set[str] = set()
    for seed in range(200):
        sent = history(Random(seed))
        spans = {p.observation.span_id: p for p in sent if p.observation.part is Part.ENDED}
        for p in sent:
            o, r = p.observation, p.reading
            if (
                o.part is Part.STARTED
                and r.role is Role.OTHER
                and o.span_id in spans
                and spans[o.span_id].reading.role.is_root_span
            ):
                seen.add("late root span")
            if o.part is Part.ENDED and r.role is Role.LLM:
                above = spans.get(o.parent_id)
                if above is not None and above.reading.role is Role.LLM:
                    seen.add("stacked")
                if r.response_id and sum(q.reading.response_id == r.response_id for q in spans.values()) > 1:
                    seen.add("shared response id")
            if o.parent_id and o.parent_id not in {q.observation.span_id for q in sent}:
                seen.add("lost parent")
    assert seen == {"late root span", "stacked", "shared response id", "lost parent"}
    assert placed(sent[0].observation, sent[0].reading) == sent[0]
