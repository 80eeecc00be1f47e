"""Which traces have a message: agents, requests with model calls, jobs, by the settings; and how they are named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
import pytest

from spanpost.model.observations import Observation, Origin, Status
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.task_rules import TaskRules
from spanpost.testing.builders import SECOND, a_span, an_event

SERVER, CONSUMER, INTERNAL = 2, 5, 1
SHOP = Origin(resource={"service.name": "shop-api"})


def spans(
    *,
    name: str = "POST /answer",
    kind: int = SERVER,
    calls: int = 1,
    agent: str = "",
    fails: bool = False,
    trace: int = 1,
) -> list[Observation]:
    """Return a request as a web framework's and OpenAI's instrumentations report it."""
    status = {"status": Status.ERROR} if fails else {}
    out = [a_span(trace=1, span=1, name=name, start=0, end=9 * SECOND, attributes={"http.route": "/answer"})]
    out[0] = msgspec.structs.replace(out[0], kind=kind, **status)
    parent = 1
    if agent:
        said: dict[str, Any] = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent}
        out.append(a_span(trace=1, span=2, parent=1, start=SECOND, end=8 * SECOND, attributes=said))
        out[1] = msgspec.structs.replace(out[1], **status)
        parent = 2
    for n in range(calls):
        said = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-x", "gen_ai.usage.input_tokens": 5}
        call = a_span(
            trace=1, span=10 + n, parent=parent, start=(n + 2) * SECOND, end=(n + 3) * SECOND, attributes=said
        )
        out.append(msgspec.structs.replace(call, **(status if n == calls - 1 else {})))
    return [msgspec.structs.replace(span, origin=SHOP) for span in out]


def task_of(observations: list[Observation], **rules: Any) -> Task:
    """Return the only task, after all delays."""
    store = MemoryStore(FoldRules(tasks=TaskRules(**rules)))
    for o in observations:
        store.record_now([o])
    store.elapse_now(datetime.now(UTC) + timedelta(days=1))
    (task,) = store.tasks_now(TaskQuery(limit=9))
    return task


@pytest.mark.parametrize(
    ("request_", "rules", "is_announced"),
    [
        pytest.param({}, {}, False, id="a request with a model call is figures"),
        pytest.param({"calls": 3}, {}, False, id="with several, too"),
        pytest.param({"calls": 3, "kind": CONSUMER, "name": "orders process"}, {}, False, id="a queue's message, too"),
        pytest.param({"calls": 3, "kind": INTERNAL, "name": "nightly"}, {}, True, id="but a job has a message"),
        pytest.param({"agent": "bot"}, {}, True, id="an agent in a request has one"),
        pytest.param({}, {"when": "model calls"}, True, id="model calls"),
        pytest.param({}, {"when": "failures"}, False, id="what did not fail"),
        pytest.param({"fails": True}, {"when": "failures"}, True, id="a failed request"),
        pytest.param({"fails": True}, {}, False, id="a failed request without the setting"),
        pytest.param({"agent": "bot"}, {"when": "failures"}, False, id="an agent that did not fail"),
        pytest.param({"agent": "bot", "fails": True}, {"when": "failures"}, True, id="an agent that failed"),
        pytest.param({"agent": "bot"}, {"requests": {"POST *": "nothing"}}, False, id="by the request's name"),
        pytest.param({"agent": "bot"}, {"requests": {"GET *": "nothing"}}, True, id="another request's name"),
        pytest.param(
            {"fails": True}, {"requests": {"POST *": "failures", "*": "nothing"}}, True, id="the first that matches"
        ),
        pytest.param({"calls": 0, "agent": "bot"}, {"when": "nothing"}, False, id="nothing"),
    ],
)  # fmt: skip
def test_the_rule_decides_what_has_a_message(
    request_: dict[str, Any], rules: dict[str, Any], is_announced: bool
) -> None:
    """The rule in force decides, in any order; the figures are there in any case."""
    observations = spans(**request_)
    for order in range(3):
        Random(order).shuffle(observations)
        task = task_of(observations, **rules)
        assert (task.is_announced, task.llm_calls) == (is_announced, request_.get("calls", 1))


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        pytest.param({}, "POST /answer", id="route"),
        pytest.param({"name": "run/tasks.summarise", "kind": CONSUMER}, "tasks.summarise", id="Celery"),
        pytest.param({"name": "orders process", "kind": CONSUMER}, "orders process", id="queue"),
        pytest.param({"name": "nightly", "kind": INTERNAL}, "nightly", id="job"),
        pytest.param({"name": "GET /a?token=1"}, "GET /a", id="without a query"),
        pytest.param({"agent": "bot"}, "bot · POST /answer", id="agent in a request"),
        pytest.param({"agent": "bot", "name": "main", "kind": INTERNAL}, "bot", id="agent in a job"),
    ],
)
def test_a_task_has_the_name_of_its_request(request_: dict[str, Any], name: str) -> None:
    """A request, a job or a queue's message names what runs in it, in any order."""
    observations = spans(**request_)
    for order in range(4):
        Random(order).shuffle(observations)
        assert task_of(observations).name == name


def test_a_request_of_another_service_names_its_own_calls() -> None:
    """A request whose caller is not known here names the calls in it."""
    first, *others = spans()
    first = msgspec.structs.replace(first, parent_id=b"caller-1")
    for observations in ([first, *others], [*others, first]):
        assert task_of(observations).name == "POST /answer"


def test_a_question_in_a_request_has_a_message_in_any_case() -> None:
    """What asks a person is announced, whatever the rule says of its request."""
    observations = spans(agent="bot")
    asked = an_event(
        on=observations[1],
        name="agent.approval.requested",
        at=3 * SECOND,
        attributes={"agent.approval.id": "q-1", "agent.approval.question": "Pay?"},
    )
    assert task_of([*observations, asked], requests={"*": "nothing"}).is_announced
