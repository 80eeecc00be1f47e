"""A run that was stopped ends with its own reason, in words, on every surface that shows the end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from spanpost.model.checkpoints import Kind
from spanpost.model.observations import Observation, Part, Status
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.readers.events import failure_of
from spanpost.sinks.labels import task_label
from spanpost.store.memory import MemoryStore
from spanpost.tasks.end_reasons import ALL_REASONS, REASONS, of_failure
from spanpost.tasks.fact_values import FailureWords
from spanpost.testing.builders import SECOND, a_span
from spanpost.text.locales import ENGLISH, KOREAN


def root_span(status: Status = Status.UNSET, message: str = "", **said: Any) -> Observation:
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann", **said}
    o = a_span(start=0, end=9 * SECOND, attributes=attributes, status=status)
    return msgspec.structs.replace(o, status_message=message)


def call(*finish: str) -> Observation:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.response.finish_reasons": list(finish)}
    return a_span(span=2, parent=1, start=SECOND, end=2 * SECOND, attributes=attributes)


def choice(finish: str) -> Observation:
    """Return the event of an agent's last answer, as Strands has it on the agent's span."""
    return msgspec.structs.replace(
        root_span(), part=Part.EVENT, at_ns=9 * SECOND, name="gen_ai.choice", attributes={"finish_reason": finish}
    )


def ended(*observations: Observation) -> tuple[Task, str]:
    """Return the one task, and the text of its end."""
    store = MemoryStore()
    store.record_now(list(observations))
    (task,) = store.tasks_now(TaskQuery(limit=9))
    return task, next(one.text for one in store.checkpoints_now(limit=99) if one.kind is Kind.END)


@pytest.mark.parametrize(
    ("run", "reason", "text"),
    [
        (
            [root_span(Status.ERROR, "Max turns (3) exceeded", **{"error.type": "agents.MaxTurnsExceeded"})],
            "max_steps",
            "Stopped at its maximum of steps: MaxTurnsExceeded: Max turns (3) exceeded",
        ),
        ([root_span(Status.ERROR, "Guardrail tripwire triggered")], "guardrail", "Stopped by a guardrail: Guardrail "),
        ([root_span(Status.ERROR, "no answer", **{"error.type": "TimeoutError"})], "timed_out", "Timed out: Timeout"),
        ([root_span(Status.ERROR, "payment unreachable")], "error", "Failed: payment unreachable"),
        ([call("content_filter"), root_span()], "content_filter", "Complete in 9.0 s · Stopped by a content filter"),
        ([call("refusal"), root_span(Status.OK)], "refused", "Complete in 9.0 s · The model refused"),
        (
            [call("stop"), root_span(**{"gen_ai.response.finish_reasons": ["max_turns"]})],
            "max_steps",
            "Complete in 9.0 s · Stopped at its maximum of steps",
        ),
        (
            [call("tool_use"), choice("limit_turns"), root_span()],
            "max_steps",
            "Complete in 9.0 s · Stopped at its maximum of steps",
        ),
        ([call("stop"), choice("end_turn"), root_span()], "complete", "Complete in 9.0 s"),
        ([call("stop"), root_span()], "complete", "Complete in 9.0 s"),
        ([root_span(Status.ERROR, "stop", **{"error.type": "CancelledError"})], "cancelled", "Cancelled in 9.0 s"),
    ],
)
def test_a_run_ends_with_its_reason(run: list[Observation], reason: str, text: str) -> None:
    """The reason of the closed set is in the row, and its words are in the end's checkpoint and in the label."""
    task, said = ended(*run)
    assert task.end_reason == reason
    assert reason in ALL_REASONS
    assert said.startswith(text)
    if reason in REASONS:
        assert task_label(task, ENGLISH).word == ENGLISH.say(f"status.{reason}")
        assert task_label(task, KOREAN).word == KOREAN.say(f"status.{reason}") != task_label(task, ENGLISH).word


@pytest.mark.parametrize(
    ("kind", "said", "reason"),
    [
        ("langgraph.errors.GraphRecursionError", "Recursion limit of 3 reached", "max_steps"),
        ("WorkflowRuntimeError", "Max iterations of 20 reached! Either something went wrong", "max_steps"),
        ("pydantic_ai.exceptions.UsageLimitExceeded", "The next request would exceed the request_limit", "max_steps"),
        ("", "Max turns exceeded", "max_steps"),
        ("InputGuardrailTripwireTriggered", "Guardrail InputGuardrail triggered tripwire", "guardrail"),
        ("openai.BadRequestError", "response filtered by Azure OpenAI's content management policy", "content_filter"),
        ("ContentFilterFinishReasonError", "", "content_filter"),
        ("asyncio.exceptions.TimeoutError", "", "timed_out"),
        ("openai.APITimeoutError", "Request timed out.", "timed_out"),
        ("DeadlineExceeded", "", "timed_out"),
        # None of them:
        ("RecursionError", "maximum recursion depth exceeded", "error"),
        ("ConnectionRefusedError", "[Errno 111]", "error"),
        ("openai.BadRequestError", "This model's maximum context length is 128000 tokens", "error"),
        ("ValueError", "steps must be positive", "error"),
    ],
)
def test_the_reason_is_read_from_the_error(kind: str, said: str, reason: str) -> None:
    """The words of frameworks and providers are known, and words that only look like them are not taken for them."""
    assert of_failure(FailureWords(kind, said, "")) == reason


@pytest.mark.parametrize(
    ("kind", "said", "shown"),
    [
        ("langchain.OpenAIError", "OpenAIError('code 400')", "code 400"),
        ("_OTHER", "{'message': 'Error in agent run', 'data': {'error': 'no tool'}}", "Error in agent run: no tool"),
        ("", "Error in agent run: {'error': 'tool book: full'}", "tool book: full"),
        ("", "run status: error", ""),  # agno: the call that failed says why
        ("", "Max turns exceeded: {'max_turns': 3}", "Max turns exceeded (max_turns: 3)"),
        ("", 'GraphRecursionError("Recursion limit of 5 reached.\\nVisit https://x")', "Recursion limit of 5 reached."),
        (
            "ServiceResponseException",
            """("<class 'a.OpenAI'> service failed to complete the prompt", BadRequestError('Error code: 400'))""",
            "BadRequestError: Error code: 400",
        ),
        (
            "<class 'sk.ServiceResponseException'>",
            """ServiceResponseException: ("<class 'a.OpenAI'> failed", BadRequestError('Error code: 400'))""",
            "BadRequestError: Error code: 400",
        ),
        ("AgentError", "Error while generating:\nError code: 400\nat x", "Error while generating: Error code: 400"),
    ],
)  # fmt: skip
def test_a_failure_is_shown_once_and_with_its_cause(kind: str, said: str, shown: str) -> None:
    """The type is not repeated, no dictionary of Python is shown, and a line that introduces the next has it."""
    assert failure_of(kind, said).message == shown


def test_a_run_whose_root_stays_open_is_not_at_work() -> None:
    """Where the last call failed and the step around it too, the run has failed ten seconds later, with that reason."""
    bad = {"gen_ai.operation.name": "chat", "error.type": "BadRequestError"}
    step = {"openinference.span.kind": "CHAIN"}
    at_work = a_span(
        start=0, attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}, end=None
    )
    failed = [
        a_span(span=3, parent=2, start=SECOND, end=2 * SECOND, attributes=bad, status=Status.ERROR),
        a_span(span=2, parent=1, start=SECOND, end=3 * SECOND, attributes=step, status=Status.ERROR),
    ]
    store = MemoryStore()
    store.record_now([at_work, *failed])
    store.elapse_now(datetime.now(UTC) + timedelta(seconds=12))
    (task,) = store.tasks_now(TaskQuery(limit=9))
    assert (task.status, task.rule, task.error and task.error.type) == (
        "error",
        "last call failed, nothing since",
        "BadRequestError",
    )
