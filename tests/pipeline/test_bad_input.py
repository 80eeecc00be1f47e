"""Late input, wrong clocks and invalid values are recorded without harm. `tests/promises.toml` lists them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from opentelemetry.sdk.trace import TracerProvider

from spanpost.model.deliveries import Mode, Receipt
from spanpost.model.errors import Unavailable
from spanpost.model.observations import Observation, Part
from spanpost.model.outcomes import RetryAt
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.receivers.sdk import SdkSpanProcessor
from spanpost.receivers.worker import Feed
from spanpost.routing.retries import Policy, decide
from spanpost.routing.routes import Routes
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.testing.observed import a_run, ended
from spanpost.testing.receivers import SeenRequest
from spanpost.text.repair import mend

DAY = 86_400.0


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(FoldRules(routes=Routes(sinks=("slack",))))


def the_task(store: MemoryStore) -> Task:
    [task] = store.tasks_now(TaskQuery(limit=10))
    return task


def late_tool(at: float, span: int = 9) -> Observation:
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "late"}
    return ended(trace=1, span=span, parent=1, name="tool", attributes=attributes, at=at, seconds=0.5)


@pytest.mark.proves("any-order", "out-of-order")
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=lambda order: "".join(map(str, order)))
def test_children_before_their_parents(store: MemoryStore, order: tuple[int, ...]) -> None:
    """Item 20: the parts of a run give the same run in any order, one by one."""
    run = a_run("any order")
    for place in order:
        store.record_now([run[place]])
    task = the_task(store)
    assert (task.name, task.status, task.llm_calls, task.tool_calls, task.input_tokens) == (
        "any order",
        "complete",
        1,
        1,
        100,
    )


@pytest.mark.proves("late-is-quiet", "out-of-order")
async def test_a_run_of_days_ago_is_recorded_and_not_announced(store: MemoryStore) -> None:
    """Item 20: a run three days old, and its later call, are counted and not reported as current."""
    store.record_now(a_run("of days ago", at=-3 * DAY))
    assert store.record_now([late_tool(-3 * DAY + 3)]).events == 1
    task = the_task(store)
    assert (task.status, task.tool_calls) == ("complete", 2)
    assert [row.mode for row in await store.outbox.deliveries()] == [Mode.STATE]


@pytest.mark.proves("late-is-quiet", "out-of-order")
async def test_a_call_that_comes_after_the_end_reopens_nothing(store: MemoryStore) -> None:
    """Item 20: an event from before the end that arrives after it is counted, and announces nothing."""
    store.record_now(a_run("ended"))
    before = {row.id for row in await store.outbox.deliveries()}
    store.record_now([late_tool(3.0)])
    task = the_task(store)
    assert (task.status, task.tool_calls) == ("complete", 2)
    assert {row.id for row in await store.outbox.deliveries()} == before


@pytest.mark.proves("clocks", "clock-jumps", "sender-clock")
@pytest.mark.parametrize("years", [-30, -3, 3, 30, 200])
async def test_the_clock_of_a_sender_moves_nothing_of_ours(store: MemoryStore, years: int) -> None:
    """Item 23: deliveries of a sender with a wrong clock are due now, and retries follow our clock."""
    store.record_now(a_run("off", trace=1, at=years * 365 * DAY))
    store.record_now(a_run("right", trace=2))
    assert await store.outbox.due_in() == 0
    claimed = await store.outbox.claim(["slack"], 10)
    assert {d.task.name for d in claimed} == {"off", "right"}
    assert max(abs(d.born_at - claimed[0].born_at) for d in claimed) < timedelta(minutes=5)
    [off] = [d for d in claimed if d.task.name == "off"]
    assert off.claimed_at is not None
    failed = decide(Unavailable("down", reason="away"), off.attempt, off.born_at, off.claimed_at, 0.5, Policy())
    assert isinstance(failed, RetryAt)
    assert timedelta(0) < failed.at - off.claimed_at < timedelta(seconds=2)
    for delivery in claimed:
        await store.outbox.finish(delivery, Receipt(ref={"ts": "1"}))
    names = await _rest(store)
    assert "right" in names


async def _rest(store: MemoryStore) -> set[str]:
    names: set[str] = set()
    while claimed := await store.outbox.claim(["slack"], 10):
        names |= {d.task.name for d in claimed}
        for delivery in claimed:
            await store.outbox.finish(delivery, Receipt(ref={"ts": "1"}))
    return names


class Foreign:
    """A value of an agent's own class, whose every method fails."""

    def _fail(self, *_: Any) -> NoReturn:
        raise AssertionError("it was asked")

    __repr__ = __str__ = __iter__ = __len__ = __bool__ = __bytes__ = __float__ = __int__ = __getitem__ = (
        __contains__
    ) = _fail  # type: ignore[assignment]


def endless() -> Iterator[int]:
    raise AssertionError("it was asked")
    yield 0


@pytest.mark.proves("no-wait", "foreign-objects")
@pytest.mark.parametrize(
    "value", [Foreign(), endless(), threading.Lock(), object(), Foreign, lambda: 1, [Foreign()], {"a": Foreign()}]
)
def test_nothing_is_asked_of_what_is_no_value(value: Any) -> None:
    """Item 32: of an object that is no plain value its type is kept, and none of its methods runs."""
    mended, repairs = mend({"strange": value, "plain": 1})
    assert mended["plain"] == 1
    assert repairs
    assert "strange" in mended


@pytest.mark.proves("no-wait", "foreign-objects")
def test_strange_attributes_of_a_living_span_cost_the_agent_nothing() -> None:
    """Item 32: invalid attributes set past the SDK's check do not raise and do not hide the span."""
    seen = SeenRequest()
    provider = TracerProvider(shutdown_on_exit=False)
    processor = SdkSpanProcessor(Feed(seen))
    provider.add_span_processor(processor)
    span: Any = provider.get_tracer("t").start_span("task")
    span._attributes._dict.update(
        {"strange": Foreign(), "lock": threading.Lock(), "giant": "x" * 10_000_000, "plain": 1}
    )
    span.end()
    processor.shutdown()
    [recorded] = seen.of(Part.ENDED)
    assert recorded.attributes["plain"] == 1
    assert len(recorded.attributes["giant"]) <= 64 * 1024
    assert processor.feed.losses.totals() == {}


@pytest.mark.proves("each-call-once", "other-versions")
@pytest.mark.parametrize(
    "said",
    [
        {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20, "gen_ai.provider.name": "openai"},
        {"gen_ai.usage.prompt_tokens": 100, "gen_ai.usage.completion_tokens": 20, "gen_ai.system": "openai"},
        {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20, "gen_ai.of.the.year.2030": {"a": [1]}},
    ],
    ids=["as today", "renamed since", "of a version to come"],
)
def test_names_of_other_versions(store: MemoryStore, said: dict[str, Any]) -> None:
    """Item 37: a call with other versions of the names has the same figures; unknown names do no harm."""
    run = a_run("versions")
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"} | said
    run[1] = ended(trace=1, span=2, parent=1, name="chat", attributes=call, at=4, seconds=2.0)
    store.record_now(run)
    task = the_task(store)
    assert (task.llm_calls, task.input_tokens, task.output_tokens) == (1, 100, 20)
