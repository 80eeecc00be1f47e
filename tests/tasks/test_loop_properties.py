"""Loops in any order: the same findings, reported at most once, and state that is bounded whatever is sent."""

from __future__ import annotations

import json
import os
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.checkpoints import Kind
from spanpost.model.observations import Observation, Part, Status
from spanpost.store.memory import MemoryStore
from spanpost.tasks import batches
from spanpost.tasks.folded import Placed
from spanpost.tasks.loop_facts import CALL_CAP, MARK_CAP, TURN_CAP, LoopFacts, Mark, ToolCall, Turn
from spanpost.tasks.records import Subtree
from tests.tasks.histories import BASE, SECOND, Twin, feed
from tests.thorough import by_seeds


def a_span(
    n: int, at: int, name: str, attributes: dict[str, object], *, parent: int = 1, **more: object
) -> Observation:
    given = {"part": Part.ENDED, "start_ns": at, "end_ns": at + SECOND // 2, "at_ns": at + SECOND // 2} | more
    return Observation(
        trace_id=b"t" * 16,
        span_id=n.to_bytes(8, "big"),
        parent_id=parent.to_bytes(8, "big") if parent else b"",
        name=name,
        attributes=attributes,
        **given,  # type: ignore[arg-type]
    )


def a_call(n: int, at: int, arguments: object, result: str, **more: object) -> Observation:
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "read",
        "gen_ai.tool.call.arguments": json.dumps(arguments),
        "gen_ai.tool.call.result": result,
    }
    return a_span(n, at, "execute_tool read", attributes, **more)


AGENT = {"gen_ai.operation.name": "invoke_agent"}
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}


def history(random: Random) -> list[Placed]:
    """Return an agent's run, perhaps with sub-agents: few kinds of calls, model calls, steps and checkpoints."""
    at, owners = BASE, [1]
    sent = [a_span(1, BASE, "agent", AGENT, parent=0, end_ns=BASE + 9999 * SECOND)]
    for n in range(2, random.randint(20, 160)):
        at += random.choice((1,) * 40 + (90,)) * SECOND
        owner, what = random.choice(owners), random.random()
        if what < 0.02:
            named = AGENT | {"gen_ai.agent.name": f"a{n}"}
            sent.append(a_span(n, at, "helper", named, end_ns=at + 3000 * SECOND, parent=owner))
            owners.append(n)
        elif what < 0.05:
            sent.append(a_span(n, at, "step", {"gen_ai.operation.name": "task"}, parent=owner))
            owners.append(n)
        elif what < 0.3:
            sent.append(a_span(n, at, "chat", CHAT | {"gen_ai.usage.input_tokens": 10 * n}, parent=owner))
        elif what < 0.32:
            said = {"agent.checkpoint.message": f"step {random.randrange(9)}"}
            sent.append(a_span(owner, at, "agent.checkpoint", said, part=Part.EVENT, index=n, parent=0))
        else:
            kind = random.choices((1, 2, 3, n), (40, 12, 2, 1))[0]
            status = Status.ERROR if random.random() < 0.05 else Status.UNSET
            sent.append(a_call(n, at, {"x": kind}, str(kind), parent=owner, status=status))
            if random.random() < 0.05:  # a second copy that says more
                more = {**sent[-1].attributes, "more": 1}
                sent.append(msgspec.structs.replace(sent[-1], attributes=more))
    return batches.prepare(sent)


def findings(twin: Twin) -> list[object]:
    """Return what is known of loops: of the tasks' state, whether or not they are over, and of their rows."""
    twin.work.commit()
    docs = [doc for key, doc in sorted(twin.work.docs.items()) if key[16:17] == b"u"]
    return [
        [(one.facts.loops, one.role) for one in (msgspec.msgpack.decode(doc, type=Subtree) for doc in docs)],
        sorted((task.uid, repr(task.loop)) for task in twin.tasks.values()),
    ]


@pytest.mark.slow
@pytest.mark.proves("any-order", "random-orders")
@by_seeds(60)
def test_any_order_and_repetition_gives_the_same_findings(seed: int, order: int) -> None:
    """The calls that are kept and the findings that are shown are the same in order, shuffled, repeated, in batches."""
    sent = history(Random(seed))
    assert findings(feed(sent, None)) == findings(feed(sent, Random(order)))


@pytest.mark.slow
@pytest.mark.proves("judged-once", "random-orders")
@by_seeds(60)
def test_no_order_reports_a_loop_twice(seed: int, order: int) -> None:
    """Each loop is reported at most once, whatever order its calls come in."""
    twin = feed(history(Random(seed)), Random(order))
    assert len(twin.judged) == len(set(twin.judged))


@pytest.mark.slow
@by_seeds(60, (1034179601, 1142001901))
def test_in_order_of_time_batches_of_any_size_report_the_same_loops(seed: int, order: int) -> None:
    """One call at a time, or all at once: the same loops are reported, with the same words and times."""
    random = Random(order)
    sent = sorted(history(Random(seed)), key=lambda p: (p.observation.at_ns, p.observation.span_id, p.content_hash))
    root_first = [p for p in sent if p.observation.span_id == b"\0" * 7 + b"\1" and p.is_span]
    sent = root_first + [p for p in sent if p not in root_first]

    def reported(sizes: list[int]) -> list[tuple[object, ...]]:
        twin, at = Twin(), 0
        while at < len(sent):
            size = random.choice(sizes)
            twin.record(sent[at : at + size])
            at += size
        return sorted((str(c.id), c.text, c.at) for c in twin.checkpoints.values() if c.kind is Kind.LOOP)

    assert reported([1]) == reported([1, 3, 20, 70]) == reported([len(sent)])


def test_the_histories_hold_loops() -> None:
    """The random histories hold loops that last and loops that end."""
    twins = [feed(history(Random(seed)), None) for seed in range(60)]
    reported = sum(c.kind is Kind.LOOP for twin in twins for c in twin.checkpoints.values())
    assert reported > 10


TIMES = st.integers(0, 30)
CALLS = st.builds(
    lambda at, span, size, shown: ToolCall(at, span, size, 0, "t", shown, b"", 0, False),
    TIMES, st.binary(max_size=1), st.integers(0, 2), st.binary(max_size=1),
)  # fmt: skip
TURNS = st.builds(lambda at, span, tokens: Turn(at, span, 0, tokens), TIMES, st.binary(max_size=1), TIMES)
MARKS = st.builds(Mark, TIMES, st.binary(max_size=1))
THINGS = st.lists(st.one_of(CALLS, TURNS, MARKS), max_size=200)


def facts_of(things: list[ToolCall | Turn | Mark]) -> LoopFacts:
    facts = LoopFacts()
    for one in things:
        if isinstance(one, ToolCall):
            facts.add_call(one)
        elif isinstance(one, Turn):
            facts.add_turn(one)
        else:
            facts.add_mark(one)
    return facts


@given(THINGS, THINGS, st.randoms())
def test_facts_merge_in_any_order_to_the_same(one: list[object], other: list[object], random: Random) -> None:
    """Taking in is commutative, associative and idempotent, and merging is taking in."""
    whole = facts_of([*one, *other])  # type: ignore[list-item]
    mixed = [*one, *other, *other]
    random.shuffle(mixed)
    assert facts_of(mixed) == whole  # type: ignore[arg-type]
    merged = facts_of(one)  # type: ignore[arg-type]
    merged.merge(facts_of(other))  # type: ignore[arg-type]
    merged.merge(facts_of(one))  # type: ignore[arg-type]
    assert merged == whole


#: Distinct calls of the hostile agent; 100,000 take half a minute.
MANY = int(os.environ.get("SPANPOST_TEST_CALLS") or "5000")


@pytest.mark.slow
@pytest.mark.parametrize("is_new", [True, False], ids=["distinct calls", "distinct loops"])
def test_hostile_telemetry_does_not_grow_the_state(is_new: bool) -> None:
    """Thousands of distinct calls, with names of any length, leave as much state as a hundred; and as many loops as
    an agent may make leave no more checkpoints than a task may have.
    """
    store, n, sizes = MemoryStore(), 2, []
    while n < (MANY if is_new else 3000):
        batch = []
        for _ in range(500):
            kind = n if is_new else n // 6
            sent = a_call(n, BASE + n * SECOND, {"x": kind}, str(kind))
            named = {**sent.attributes, "gen_ai.tool.name": f"{kind}" * 300}
            batch.append(msgspec.structs.replace(sent, attributes=named))
            n += 1
        store.record_now(batch)
        kept = [one for one in store._tables.records.by_key.values() if isinstance(one, Subtree)]
        loops = [one.facts.loops for one in kept if one.facts.loops is not None]
        assert all(len(one.calls) <= CALL_CAP for one in loops)
        assert all(len(one.turns) <= TURN_CAP and len(one.marks) <= MARK_CAP for one in loops)
        sizes.append(max(len(msgspec.msgpack.encode(one)) for one in loops))
    assert max(sizes) <= CALL_CAP * 140
    assert sum(c.kind is Kind.LOOP for c in store.checkpoints_now(limit=10**6)) == (0 if is_new else 20)
