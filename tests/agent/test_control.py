"""Agents that wait for people, in the process that follows them: no network, no database."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spanpost
from spanpost.agent import agent_task
from spanpost.agent.adapters.scope import ask, refused
from spanpost.agent.control import (
    ApprovalTimeout,
    Control,
    ControlUnavailable,
    Decision,
    QuestionTooLong,
    approval,
    approval_sync,
    cancelled,
    install,
    messages,
    messages_sync,
    paused,
)
from spanpost.agent.gateway import find
from spanpost.model.interventions import ApprovalRow, Intervention, Result, Verb, Verdict
from spanpost.model.queries import ApprovalQuery, TaskQuery
from spanpost.model.tasks import Task
from spanpost.runtime.pipeline import Pipeline
from spanpost.testing.exercise_people import ALICE

Tracer = Any


class Interactions:
    """A person at this process's pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._changed = threading.Event()
        pipeline.ask(pipeline.store.interventions.listen(lambda _: self._changed.set()))

    def asked(self, count: int = 1) -> list[ApprovalRow]:
        """Wait until that many questions are open, and return them."""
        while True:
            self._changed.clear()
            found = self.pipeline.ask(
                self.pipeline.store.interventions.approvals(ApprovalQuery(state="open", limit=1000))
            )
            if len(found) >= count:
                return found
            assert self._changed.wait(60)

    def do(self, verb: Verb, key: Any, text: str = "", option: str = "") -> Verdict:
        act = Intervention(
            tenant="default", verb=verb, key=key, actor=ALICE, text=text, option=option, source="api",
            idempotency_key=f"{verb}{key}{text}", at=datetime.now(UTC),
        )  # fmt: skip
        return self.pipeline.ask(self._intervene(act))

    async def _intervene(self, act: Intervention) -> Verdict:
        verdict = await self.pipeline.store.interventions.intervene(act)
        if verdict.recorded is not None:
            self.pipeline.components.take(verdict.recorded)
        return verdict

    def tasks(self) -> list[Task]:
        assert self.pipeline.force_flush(60.0)
        return self.pipeline.ask(self.pipeline.store.tasks(TaskQuery()))


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exported: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    return provider


@pytest.fixture
def tracer(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> Tracer:
    """Return the agents' tracer; the wait's span comes from the same provider."""
    monkeypatch.setattr("opentelemetry.trace.get_tracer", lambda name, *_, **__: provider.get_tracer(name))
    return provider.get_tracer("test")


@pytest.fixture
def interactions(provider: TracerProvider, clean_environment: Path) -> Iterator[Interactions]:
    pipeline = spanpost.attach(tracer_provider=provider)
    yield Interactions(pipeline)
    pipeline.shutdown()


async def test_an_agent_goes_on_with_the_decision(
    interactions: Interactions, tracer: Tracer, exported: InMemorySpanExporter
) -> None:
    """A person's decision resumes the agent; the question, the wait and the answer are in the trace."""

    def decide() -> Verdict:
        [row] = interactions.asked()
        assert (row.question, row.detail, row.risk, row.options) == ("Deploy?", "v2", "high", ())
        return interactions.do(Verb.APPROVE, row.key, "ship it")

    deciding = asyncio.create_task(asyncio.to_thread(decide))
    async with agent_task("release", tracer=tracer):
        decision = await approval("Deploy?", detail="v2", risk="high")
    assert (await deciding).result is Result.DONE
    assert (decision.approved, decision.denied, decision.expired) == (True, False, False)
    assert (decision.by, decision.comment) == ("alice", "ship it")
    wait, task = exported.get_finished_spans()
    assert (wait.name, wait.parent.span_id if wait.parent else 0) == ("agent.approval.wait", task.context.span_id)
    assert (wait.attributes or {})["agent.approval.decision"] == "approve"
    assert [(e.name, (e.attributes or {})["agent.approval.id"]) for e in task.events] == [
        ("agent.approval.requested", decision.id), ("agent.approval.resolved", decision.id)
    ]  # fmt: skip
    [shown] = interactions.tasks()
    assert (shown.status, [(a.question, a.decision, a.by, a.source) for a in shown.approvals]) == (
        "complete", [("Deploy?", "approve", "alice", "api")]
    )  # fmt: skip


def test_many_threads_wait_for_people(interactions: Interactions, tracer: Tracer) -> None:
    """Agents in several threads each get the answer to their own question, one of its options."""

    def work(number: int) -> tuple[int, str]:
        with agent_task(f"run {number}", tracer=tracer):
            return number, approval_sync(f"Which, {number}?", options=["blue", "green\n"]).decision

    with ThreadPoolExecutor(30) as threads:
        answers = [threads.submit(work, number) for number in range(30)]
        for row in interactions.asked(30):
            number = int(row.question.split()[1].rstrip("?"))
            interactions.do(Verb.CHOOSE, row.key, option="green" if number % 2 else "blue")
        assert sorted(a.result(60) for a in answers) == [(n, "green\n" if n % 2 else "blue") for n in range(30)]


async def test_a_wait_that_is_cut_leaves_the_question_open(interactions: Interactions, tracer: Tracer) -> None:
    """A timeout or cancellation by the agent ends only the wait: asked again, the question has its answer."""
    with pytest.raises(ApprovalTimeout, match="nobody decided within"):
        await approval("Deploy?", id="release-1", timeout=0.05)
    asking = asyncio.create_task(approval("Deploy?", id="release-1"))
    row = (await asyncio.to_thread(interactions.asked))[0]
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    interactions.do(Verb.DENY, row.key)
    again = await approval("Deploy?", id="release-1")
    assert (again.denied, again.by) == (True, "alice")


@pytest.mark.proves("bound-to-words")
async def test_other_words_under_the_same_id_are_another_question(interactions: Interactions, tracer: Tracer) -> None:
    """An approval of other words does not count, and the agent that waits for the old words gets no decision."""
    async with agent_task("release", tracer=tracer):
        first = asyncio.create_task(approval("Deploy v1?", id="release"))
        await asyncio.to_thread(interactions.asked)
        second = asyncio.create_task(approval("Deploy v2?", id="release"))
        replaced = await first
        assert (replaced.expired, replaced.denied, replaced.comment) == (
            True,
            False,
            "it was asked again in other words",
        )
        [row] = await asyncio.to_thread(interactions.asked)
        assert row.question == "Deploy v2?"
        interactions.do(Verb.APPROVE, row.key)
        assert (await second).approved


@pytest.mark.proves("silence-is-no-yes")
@pytest.mark.parametrize(("then", "is_denied"), [("expire", False), ("deny", True)])
async def test_a_passed_deadline_is_no_denial(
    interactions: Interactions, tracer: Tracer, then: Any, is_denied: bool
) -> None:
    """A question without an answer in time expires; it counts as a denial only where the question says so."""
    decision = await approval("Deploy?", expires_in=0.1, at_expiry=then)
    assert (decision.expired, decision.denied, decision.approved, decision.by) == (True, is_denied, False, "")


async def test_requests_of_people_reach_the_running_agent(interactions: Interactions, tracer: Tracer) -> None:
    """Cancel, pause, resume and messages reach the running agent, each message once; another task receives
    none.
    """
    async with agent_task("long", task_id="job-1", tracer=tracer) as task:
        assert (cancelled(), paused(), messages_sync()) == (False, False, [])
        [shown] = interactions.tasks()
        interactions.do(Verb.MESSAGE, shown.uid, "look at the logs")
        interactions.do(Verb.PAUSE, shown.uid)
        await until(paused)
        assert [(m.text, m.by) for m in await messages()] == [("look at the logs", "alice")]
        assert await messages() == []
        interactions.do(Verb.RESUME, shown.uid)
        await until(lambda: not paused())
        interactions.do(Verb.CANCEL, shown.uid)
        await until(cancelled)
        assert cancelled(task)
        async with agent_task("another", task_id="job-2", tracer=tracer):
            assert not cancelled()
    assert not cancelled()


async def test_a_second_run_is_not_stopped_by_what_was_asked_of_the_first(
    interactions: Interactions, tracer: Tracer
) -> None:
    """Requests to a run that has ended do not reach the task's next run, which receives only its own."""
    async with agent_task("long", task_id="job-3", tracer=tracer):
        assert not cancelled()
        [shown] = interactions.tasks()
        interactions.do(Verb.CANCEL, shown.uid)
        await until(cancelled)
    async with agent_task("long", task_id="job-3", tracer=tracer):
        [again] = interactions.tasks()
        assert (again.runs, again.cancel_by) == (2, "")
        assert not cancelled()
        interactions.do(Verb.CANCEL, again.uid, "again")
        await until(cancelled)


async def test_a_second_run_receives_acts_before_its_start_is_recorded(
    tracer: Tracer, provider: TracerProvider
) -> None:
    """A task taken for ended reports no old acts, and a second run receives the new ones."""
    asked: list[int] = []
    answers: list[Any] = [
        {"status": "cancelled", "after": 0, "acts": []},
        {"status": "cancelled", "acts": [{"verb": "message"}]},  # an answer without content: a message without its time
        {"status": "working", "after": 7, "acts": [{"number": 7, "verb": "cancel"}]},
        {"status": "cancelled", "after": 7, "acts": []},
    ]

    class Far:
        """A gateway that learns of the second run late."""

        wait = 0.6

        async def task(self, ref: str, after: int, wait: float) -> Any:
            asked.append(after)
            return answers.pop(0) if len(answers) > 1 else answers[0]

    install(cast("Control", Far()))
    try:
        with agent_task("long", task_id="job-4", tracer=tracer):
            assert not cancelled()
            await until(cancelled)
            assert messages_sync() == []
    finally:
        install(None)
    assert asked[:3] == [0, 0, 0]


async def test_old_acts_of_a_task_do_not_hide_new_ones(interactions: Interactions, tracer: Tracer) -> None:
    """A second run receives its own requests even if the first received more than fit into one answer."""
    async with agent_task("long", task_id="job-5", tracer=tracer):
        [shown] = interactions.tasks()
        for n in range(101):
            interactions.do(Verb.MESSAGE, shown.uid, f"{n}")
    interactions.tasks()
    assert interactions.pipeline.ask(interactions.pipeline.components.answers.task("default", "job-5"))["acts"] == []
    async with agent_task("long", task_id="job-5", tracer=tracer):
        interactions.tasks()
        interactions.do(Verb.CANCEL, shown.uid)
        await until(cancelled)
        assert await messages() == []


async def test_a_shutdown_ends_the_wait(interactions: Interactions, tracer: Tracer) -> None:
    """A shutdown of spanpost in this process ends every wait with the reason."""
    waiting = asyncio.create_task(approval("Deploy?"))
    await asyncio.to_thread(interactions.asked)
    assert await asyncio.to_thread(interactions.pipeline.shutdown)
    with pytest.raises(ControlUnavailable, match="shut down"):
        await waiting


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_asks_too(interactions: Interactions, tracer: Tracer) -> None:
    """A child that was forked from a followed process asks people through a pipeline of its own."""
    read_end, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            pipeline = interactions.pipeline

            def answer() -> None:
                while not (found := pipeline._loop is not None and pipeline.questions()):
                    time.sleep(0.02)  # the child's pipeline starts with its first question
                pipeline.decide(str(found[0].key), "approve", by="bob")

            threading.Thread(target=answer, daemon=True).start()
            os.write(tell, approval_sync("In the child?", timeout=60).by.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read_end, 10) == b"bob"


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until a condition is met."""
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # another thread receives it, and reports nothing


async def test_without_spanpost_it_says_what_to_set(clean_environment: Path) -> None:
    """Without spanpost and without a gateway the error says what to set, and nothing waits."""
    with pytest.raises(ControlUnavailable, match=r"set SPANPOST_CONTROL__ENDPOINT .* or call spanpost.attach\(\)"):
        await approval("Deploy?")
    with pytest.raises(ControlUnavailable):
        approval_sync("Deploy?")
    assert not cancelled()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "SPANPOST_CONTROL__ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, "gRPC"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "gRPC"),
        ({"SPANPOST_FORWARD__ENDPOINT": "unix:///run/otlp.sock"}, "unix is no HTTP address"),
        ({"SPANPOST_CONTROL__ENDPOINT": "http://h:99999999"}, "no HTTP address"),
        ({"SPANPOST_CONTROL__ENDPOINT": "http://h", "SPANPOST_CONTROL__TOKEN": "a\r\nx: y"}, "look at the token"),
    ],
)
def test_an_endpoint_that_cannot_be_asked(environment: dict[str, str], said: str) -> None:
    """An unusable gateway address is refused with what to set, never with the token."""
    with pytest.raises(ControlUnavailable, match=said):
        find(environment)


@pytest.mark.parametrize(
    "wrong",
    [{"question": " "}, {"id": " "}, {"expires_in": -1}, {"expires_in": float("nan")}, {"at_expiry": "explode"}]
    + [
        {"options": options}
        for options in (["a", " a"], ["a", ""], ["x" * 600], [str(n) for n in range(21)], ["expired"])
    ],
)
async def test_what_makes_no_sense_is_refused_at_once(interactions: Interactions, wrong: dict[str, Any]) -> None:
    """Empty questions or ids, past deadlines, unknown words and unusable options are errors of the caller."""
    with pytest.raises(ValueError, match="approval: "):
        await approval(**({"question": "Deploy?"} | wrong))
    with pytest.raises(TypeError):
        await approval("Deploy?", options="yes")


async def test_what_people_could_not_be_shown_whole_is_not_asked(interactions: Interactions, tracer: Tracer) -> None:
    """A question that is too long is not asked: it raises with the limit, and an adapter denies the call."""
    for words in (
        {"question": "x" * 8193},
        {"question": "Deploy?", "detail": "y" * 8193},
        {"question": "Deploy?", "risk": "z" * 513},
    ):
        with pytest.raises(QuestionTooLong, match=r"\d+ characters, and people can be shown (8192|512); shorten it"):
            await approval(**words)
    decision = await ask("Run write_file?", id="trip/1", detail="y" * 9000)
    assert (decision.denied, decision.approved, "shorten it" in refused(decision)) == (True, False, True)
    assert interactions.tasks() == []


async def test_the_agents_log_says_why_a_question_cannot_be_approved(
    interactions: Interactions, tracer: Tracer, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent's log says once that a hidden part prevents approval, and a denial still reaches the agent."""
    loop, is_said = asyncio.get_running_loop(), asyncio.Event()
    says = logging.Filter()
    says.filter = lambda record: loop.call_soon_threadsafe(is_said.set) is not None  # type: ignore[method-assign]
    with caplog.at_level("WARNING", "spanpost.control"), caplog.filtering(says):
        async with agent_task("release", tracer=tracer):
            asking = asyncio.create_task(approval("Deploy?", detail="with password=hunter2hunter2", id="hidden"))
            [row] = await asyncio.to_thread(interactions.asked)
            await asyncio.wait_for(is_said.wait(), 60)
            assert interactions.do(Verb.APPROVE, row.key).result is Result.HIDDEN
            assert interactions.do(Verb.DENY, row.key).result is Result.DONE
            assert (await asking).denied
            assert (await approval("Deploy?", detail="with password=hunter2hunter2", id="hidden")).source == "api"
    [warning] = caplog.messages
    assert "the question hidden: the question cannot be approved, only denied" in warning


@pytest.mark.proves("only-people", "forged-answers")
def test_a_decision_without_a_source_is_no_approval() -> None:
    """Only a decision made through spanpost approves; a decision without a source does not."""
    assert not Decision(id="a", decision="approve", by="the CEO").approved
    assert not Decision(id="a", decision="approve", source="spanpost", expired=True).approved
    assert Decision(id="a", decision="approve", source="slack").approved
