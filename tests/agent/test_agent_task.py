"""Helpers for agents: what they emit, how a task ends, and that without an SDK they do nothing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from spanpost import semconv as c
from spanpost.agent import agent_task, artifact, checkpoint, current_task, step


class Emitted:
    """A tracer, and the spans that ended in it."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("t")

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def only(self) -> ReadableSpan:
        [span] = self.spans
        return span

    def statuses(self) -> list[Any]:
        return [(s.attributes or {}).get(c.STATUS) for s in self.spans]


@pytest.fixture
def emitted() -> Emitted:
    return Emitted()


def test_a_task_says_who_and_what_it_is(emitted: Emitted) -> None:
    """Every argument becomes its attribute, arguments left out are absent, and a normal end is complete."""
    with agent_task(
        "Review PR 7",
        task_id="t-7",
        agent="reviewer",
        repo="acme/shop",
        topic="ci",
        type="review",
        requested_by="ann",
        parent_id="t-1",
        retry_of="t-6",
        links={"pr": "https://example.org/7"},
        attributes={"team": "web", "unset": None},
        tracer=emitted.tracer,
    ) as task:
        assert task.task_id == "t-7"
    assert emitted.only.name == "Review PR 7"
    assert emitted.only.attributes == {
        "agent.task.name": "Review PR 7",
        "agent.task.id": "t-7",
        "agent.task.type": "review",
        "agent.task.parent_id": "t-1",
        "agent.name": "reviewer",
        "agent.repo": "acme/shop",
        "agent.topic": "ci",
        "agent.requested_by": "ann",
        "agent.retry_of": "t-6",
        "agent.link.pr": "https://example.org/7",
        "team": "web",
        "agent.status": "complete",
    }
    assert emitted.only.status.status_code is StatusCode.UNSET


def test_a_checkpoint_is_an_event_and_stays_on_the_task(emitted: Emitted) -> None:
    """A checkpoint is an event with all its attributes; of these only progress stays on the task's span."""
    with agent_task("t", tracer=emitted.tracer) as task:
        task.checkpoint(
            "half way",
            progress=50,
            status="working",
            action="reading",
            step="read",
            step_index=1,
            step_count=2,
            context_used=1000,
            context_window=8000,
            files=12,
        )
    said = {
        "agent.status": "working",
        "agent.action": "reading",
        "agent.step.name": "read",
        "agent.progress": 50.0,
        "agent.step.index": 1,
        "agent.step.count": 2,
        "agent.context.used_tokens": 1000,
        "agent.context.window_tokens": 8000,
    }
    [event] = emitted.only.events
    assert (event.name, event.attributes) == (
        "agent.checkpoint",
        {"agent.checkpoint.message": "half way", **said, "files": 12},
    )
    assert emitted.only.attributes == {"agent.task.name": "t", **said, "agent.status": "complete"}


def test_what_a_task_makes_and_keeps(emitted: Emitted) -> None:
    """Artifacts are events; results, links, steps, context and set values are attributes of the task."""
    with agent_task("t", tracer=emitted.tracer) as task:
        task.artifact("PR 12", "https://example.org/12", "pr")
        task.result("tests", 42)
        task.link("logs", "https://example.org/logs")
        task.step("verify", 3, 4)
        task.context(900, 1000)
        task.set(progress=90, action="wrapping up", attributes={"team": "web"})
    [event] = emitted.only.events
    assert (event.name, event.attributes) == (
        "agent.artifact",
        {"agent.artifact.name": "PR 12", "agent.artifact.uri": "https://example.org/12", "agent.artifact.kind": "pr"},
    )
    assert emitted.only.attributes == {
        "agent.task.name": "t",
        "agent.result.tests": 42,
        "agent.link.logs": "https://example.org/logs",
        "agent.step.name": "verify",
        "agent.step.index": 3,
        "agent.step.count": 4,
        "agent.context.used_tokens": 900,
        "agent.context.window_tokens": 1000,
        "agent.progress": 90.0,
        "agent.action": "wrapping up",
        "team": "web",
        "agent.status": "complete",
    }


def test_module_level_calls_act_on_the_current_span(emitted: Emitted) -> None:
    """A checkpoint inside a tool's span is an event of the tool; its progress goes to the innermost task."""
    with agent_task("outer", tracer=emitted.tracer) as outer:
        assert current_task() is outer
        with emitted.tracer.start_as_current_span("tool"):
            checkpoint("found it", progress=10)
            artifact("report.md", kind="file")
            step("search", 1)
        with agent_task("inner", tracer=emitted.tracer) as inner:
            assert current_task() is inner
    assert current_task() is None
    tool, inner_span, outer_span = emitted.spans
    assert [e.name for e in tool.events] == ["agent.checkpoint", "agent.artifact"]
    assert not tool.attributes
    assert outer_span.attributes == {
        "agent.task.name": "outer",
        "agent.progress": 10.0,
        "agent.step.name": "search",
        "agent.step.index": 1,
        "agent.status": "complete",
    }
    assert outer_span.context is not None
    assert [s.parent and s.parent.span_id for s in (tool, inner_span)] == [outer_span.context.span_id] * 2


def test_an_error_is_recorded_once_and_raised_on(emitted: Emitted) -> None:
    """An exception ends the task as an error, is recorded once, and reaches the caller unchanged."""
    error = ValueError("no")
    with pytest.raises(ValueError, match="no") as raised, agent_task("t", tracer=emitted.tracer):
        raise error
    assert raised.value is error
    assert emitted.statuses() == ["error"]
    assert [e.name for e in emitted.only.events] == ["exception"]
    assert (emitted.only.status.status_code, emitted.only.status.description) == (StatusCode.ERROR, "ValueError: no")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (SystemExit(0), "complete"),
        (SystemExit(None), "complete"),
        (SystemExit(2), "error"),
        (TimeoutError(), "error"),
    ],
)
def test_how_a_task_ends(emitted: Emitted, error: BaseException, status: str) -> None:
    """A cancellation or a signal ends a task as cancelled, a failure as an error, and a program's regular
    exit as complete.
    """
    with pytest.raises(type(error)), agent_task("t", tracer=emitted.tracer):
        raise error
    assert emitted.statuses() == [status]


def test_an_end_that_was_said_is_kept(emitted: Emitted) -> None:
    """A final status set by the agent beats a quiet exit; an exception beats a good end that was set."""
    with agent_task("t", tracer=emitted.tracer) as task:
        task.set(status="error")
    with agent_task("t", tracer=emitted.tracer) as task:
        task.checkpoint("stopped by its owner", status="cancelled")
    with agent_task("t", tracer=emitted.tracer) as task:
        task.set(status="waiting")
    said_too_early = OSError("disk full")
    with pytest.raises(OSError, match="disk full"), agent_task("t", tracer=emitted.tracer) as task:  # noqa: PT012
        task.set(status="complete")
        raise said_too_early
    assert emitted.statuses() == ["error", "cancelled", "complete", "error"]
    assert [s.status.status_code for s in emitted.spans] == [
        StatusCode.ERROR,
        StatusCode.UNSET,
        StatusCode.UNSET,
        StatusCode.ERROR,
    ]


def test_as_async_context_manager(emitted: Emitted) -> None:
    """Concurrent tasks in one event loop each keep their own spans."""

    async def work(name: str) -> None:
        async with agent_task(name, tracer=emitted.tracer):
            await asyncio.sleep(0)
            checkpoint(f"in {name}")

    async def main() -> None:
        await asyncio.gather(work("a"), work("b"))

    asyncio.run(main())
    said = {s.name: [(e.attributes or {})[c.CHECKPOINT_MESSAGE] for e in s.events] for s in emitted.spans}
    assert said == {"a": ["in a"], "b": ["in b"]}


def test_as_decorator_of_functions(emitted: Emitted) -> None:
    """Each call of a decorated function, sync or async, is a separate task; arguments, result and name stay."""

    @agent_task("add", tracer=emitted.tracer)
    def add(a: int, b: int = 1) -> int:
        """Add."""
        checkpoint("adding")
        return a + b

    @agent_task("fail", tracer=emitted.tracer)
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    assert (add(1), add(1, b=2), add.__name__, add.__doc__) == (2, 3, "add", "Add.")
    with pytest.raises(ValueError, match="no"):
        asyncio.run(fail())
    assert [(s.name, len(s.events)) for s in emitted.spans] == [("add", 1), ("add", 1), ("fail", 1)]
    assert emitted.statuses() == ["complete", "complete", "error"]


def test_a_cancelled_coroutine_is_a_cancelled_task(emitted: Emitted) -> None:
    """A decorated coroutine that is cancelled ends cancelled, without an exception event."""
    begun = asyncio.Event()

    @agent_task("wait", tracer=emitted.tracer)
    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.ensure_future(wait())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (emitted.statuses(), emitted.only.events) == (["cancelled"], ())


def test_as_decorator_of_a_generator(emitted: Emitted) -> None:
    """A generator's task is current in the generator's code only; send, throw and return work."""

    @agent_task("stream", tracer=emitted.tracer)
    def stream() -> Generator[int, str, str]:
        checkpoint("first")
        try:
            got = yield 1
        except KeyError:
            got = "mended"
        checkpoint(got)
        yield 2
        return "done"

    def consume() -> Iterator[Any]:
        generator = stream()
        assert emitted.spans == []
        yield next(generator)
        assert current_task() is None
        yield generator.throw(KeyError("x"))
        try:
            next(generator)
        except StopIteration as stop:
            yield stop.value

    assert list(consume()) == [1, 2, "done"]
    assert [(e.attributes or {})[c.CHECKPOINT_MESSAGE] for e in emitted.only.events] == ["first", "mended"]
    assert emitted.statuses() == ["complete"]


def test_a_generator_that_is_closed_early(emitted: Emitted) -> None:
    """A generator closed early by its consumer runs its clean-up and ends cancelled; one that raises ends in
    error.
    """
    cleaned = []

    @agent_task("stream", tracer=emitted.tracer)
    def stream() -> Iterator[int]:
        try:
            yield 1
            raise ValueError("no")
        finally:
            cleaned.append(current_task() is not None)

    first = stream()
    next(first)
    first.close()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="no"):
        list(stream())
    assert (emitted.statuses(), cleaned) == (["cancelled", "error"], [True, True])


def test_as_decorator_of_an_async_generator(emitted: Emitted) -> None:
    """The task of an async generator is complete when it is exhausted, and cancelled when it is closed
    early.
    """

    @agent_task("stream", tracer=emitted.tracer)
    async def stream() -> AsyncIterator[int]:
        for number in range(3):
            checkpoint(f"{number}")
            yield number

    async def main() -> list[int]:
        got = []
        async for number in stream():
            assert current_task() is None
            got.append(number)
        early = stream()
        await anext(early)
        await early.aclose()  # type: ignore[attr-defined]
        return got

    assert asyncio.run(main()) == [0, 1, 2]
    assert emitted.statuses() == ["complete", "cancelled"]
    assert [len(s.events) for s in emitted.spans] == [3, 1]


def test_odd_values_never_fail_the_agent(emitted: Emitted) -> None:
    """A value that is no number is left out; calls after the end do nothing, not even a warning."""
    with agent_task("t", tracer=emitted.tracer) as task:
        task.checkpoint("odd", progress="lots", step_index=float("inf"), context_used=None)  # type: ignore[arg-type]
    task.checkpoint("late", progress=1)
    task.artifact("late")
    task.result("late", 1)
    [event] = emitted.only.events
    assert event.attributes == {"agent.checkpoint.message": "odd"}
    assert c.PROGRESS not in (emitted.only.attributes or {})


def child(program: str, *arguments: str) -> str:
    """Run a child to its good end and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_without_an_sdk_nothing_happens() -> None:
    """Without an SDK every helper runs, emits nothing, and passes errors on."""
    said = child("""
from spanpost.agent import agent_task, artifact, checkpoint, step
checkpoint("outside", progress=1)
artifact("a")
step("s")
try:
    with agent_task("t", task_id="t-1") as task:
        assert not task.span.is_recording()
        task.checkpoint("inside", progress=1)
        task.result("r", 1)
        raise ValueError(task.task_id)
except ValueError as error:
    print(error)
""")
    assert said == "t-1\n"


def test_an_agent_imports_the_api_and_the_conventions_alone() -> None:
    """`import spanpost.agent` imports neither the SDK nor msgspec nor pydantic, nor another package of
    spanpost.
    """
    loaded = child("import sys, spanpost.agent; print(*sorted(sys.modules))").split()
    assert [m for m in loaded if m.split(".")[0] == "spanpost"] == [
        "spanpost",
        "spanpost.agent",
        "spanpost.agent.decorate",
        "spanpost.agent.progress",
        "spanpost.agent.task",
        "spanpost.semconv",
    ]
    assert [m for m in loaded if m.startswith(("msgspec", "pydantic", "opentelemetry.sdk"))] == []


def test_an_order_is_taken_once(emitted: Emitted, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first topmost task of a launched process carries the order's id; tasks below and after it do not."""
    monkeypatch.setenv(
        "SPANPOST_ORDER", '{"id": "o-1", "retry_of": "t-1", "caused_by": null, "requested_by": "alice", "text": "x"}'
    )
    with (
        agent_task("first", requested_by="bob", tracer=emitted.tracer),
        agent_task("below", tracer=emitted.tracer),
    ):
        assert "SPANPOST_ORDER" not in os.environ
    with agent_task("second", tracer=emitted.tracer):
        pass
    said = {span.name: dict(span.attributes or {}) for span in emitted.spans}
    assert (said["first"][c.ORDER_ID], said["first"][c.RETRY_OF], said["first"][c.REQUESTED_BY]) == (
        "o-1",
        "t-1",
        "bob",
    )
    assert c.CAUSED_BY not in said["first"]
    assert [name for name in said if c.ORDER_ID in said[name]] == ["first"]


@pytest.mark.parametrize("text", ["no json", "[]", '"x"', '{"id": 7}', "{}"])
def test_an_order_that_is_none_harms_nothing(emitted: Emitted, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """An invalid launch order in the variable does not stop the task."""
    monkeypatch.setenv("SPANPOST_ORDER", text)
    with agent_task("first", tracer=emitted.tracer):
        pass
    assert c.ORDER_ID not in (emitted.only.attributes or {})


def test_an_order_that_was_handed_on(emitted: Emitted) -> None:
    """An order from a webhook or from Celery is used too; the task's own arguments take precedence."""
    order = {"id": "o-2", "retry_of": "t-2", "caused_by": "t-0"}
    for given in (order, {"type": "order.launch", "data": order}):
        with agent_task("x", order=given, retry_of="mine", tracer=emitted.tracer):
            pass
        said = dict(emitted.spans[-1].attributes or {})
        assert (said[c.ORDER_ID], said[c.RETRY_OF], said[c.CAUSED_BY]) == ("o-2", "mine", "t-0")
