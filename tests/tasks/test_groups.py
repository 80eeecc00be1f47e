"""In which task each span is shown: tables of spans, and moves when more spans arrive."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from spanpost.model.observations import Observation, Part
from spanpost.model.readings import METERED, Reading, Role
from spanpost.tasks.amounts import NO_COUNT, ONE_CALL, ZERO, SubtreeFigures, ToolCount, minus, plus
from spanpost.tasks.fold import Fold
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.record_keys import domain_of, state_key, subtree_key
from spanpost.tasks.records import TaskState
from spanpost.tasks.task_figures import add_figures
from tests.tasks.histories import NOW, Packed, placed
from tests.tasks.learning import SECOND

A, W, K, T, L, S = Role.AGENT, Role.WORKFLOW, Role.TASK, Role.TOOL, Role.LLM, Role.STEP
TRACE = b"t" * 16
DOMAIN = domain_of("default", TRACE)


class Span(NamedTuple):
    """A span: its id, its parent, its role, and its names."""

    id: str
    above: str
    role: Role
    agent: str = ""
    task: str = ""
    part: Part = Part.ENDED
    tool: str | None = None


def started(id: str, above: str, role: Role, **more: str) -> Span:
    return Span(id, above, role, part=Part.STARTED, **more)


def of_id(id: str) -> bytes:
    return id.encode().ljust(8, b"-")


def app_of(*batches: list[Span]) -> Fold:
    """Fold batches of spans into records at hand; return the fold at work after the last."""
    work = Packed()
    for number, batch in enumerate(batches):
        app = Fold(work, FoldRules(), NOW)
        for i, span in enumerate(batch):
            at = (number * 10 + i + 1) * SECOND
            o = Observation(
                part=span.part,
                trace_id=TRACE,
                span_id=of_id(span.id),
                parent_id=of_id(span.above) if span.above else b"",
                at_ns=at,
                start_ns=SECOND,
                end_ns=at if span.part is Part.ENDED else 0,
                name=span.id,
                attributes={"batch": number},
            )
            r = Reading(role=span.role, agent_name=span.agent or None, task_id=span.task or None, tool_name=span.tool)
            app.span(i, placed(o, r))
        app.close()
        work.commit()
    return Fold(work, FoldRules(), NOW)


def shown(app: Fold) -> dict[str, str]:
    """Return the task of each owner: its explicit id, else its root span, else ``trace``."""
    found = {}
    for key in app.states.work.docs:  # type: ignore[attr-defined]
        subtree = app.states.subtree(key) if key[16:17] == b"u" else None
        state = app.states.state(subtree.state) if subtree is not None else None
        if subtree is not None and state is not None:
            root_span = subtree.state[17:].decode().strip("-") or "trace"
            found[key[17:].decode().strip("-")] = state.task_id or root_span
    return found


@pytest.mark.parametrize(
    ("spans", "tasks", "sentence"),
    [
        pytest.param(
            [Span("a", "", A, "ann"), Span("b", "a", A, "bob")],
            {"a": "a", "b": "b"},
            "another agent's root span is a task of its own",
            id="two agents",
        ),
        pytest.param(
            [Span("a", "", A, "ann"), Span("b", "a", A, "ann")],
            {"a": "a", "b": "a"},
            "the same agent's root span is a part of it",
            id="one agent",
        ),
        pytest.param(
            [Span("a", "", A, "ann"), Span("b", "a", A)],
            {"a": "a", "b": "a"},
            "so is a root span without a name",
            id="no name",
        ),
        pytest.param(
            [Span("a", "", A, "ann"), Span("b", "a", W, "bob")],
            {"a": "a", "b": "a"},
            "a workflow is a part, whatever its name",
            id="workflow below",
        ),
        pytest.param(
            [Span("a", "", A, "ann"), Span("t", "a", T), Span("b", "t", A, "ann")],
            {"a": "a", "b": "b"},
            "below a tool call it is a child, even of the same agent",
            id="below a tool",
        ),
        pytest.param(
            [Span("w", "", W), Span("a", "w", A, "ann")],
            {"w": "w", "a": "w"},
            "a workflow of one agent is that agent's task",
            id="one in a workflow",
        ),
        pytest.param(
            [Span("w", "", W), Span("a", "w", A, "ann"), Span("b", "w", A, "bob")],
            {"w": "w", "a": "a", "b": "b"},
            "a workflow of two agents has two child tasks",
            id="two in a workflow",
        ),
        pytest.param(
            [Span("w", "", W), Span("a", "w", A, "ann"), Span("b", "a", A, "bob")],
            {"w": "w", "a": "w", "b": "b"},
            "only the agents directly below count",
            id="nested in a workflow",
        ),
        pytest.param(
            [Span("k", "", K, task="1"), Span("a", "k", A, task="1")],
            {"k": "1", "a": "1"},
            "one id is one task",
            id="same id",
        ),
        pytest.param(
            [Span("k", "", K, task="1"), Span("a", "k", K, task="2")],
            {"k": "1", "a": "2"},
            "an id of its own is a task of its own",
            id="other id",
        ),
        pytest.param(
            [Span("s", "", S), Span("a", "s", A, "ann")],
            {"s": "trace", "a": "a"},
            "what lies above a root span is not its task's",
            id="above a root span",
        ),
        pytest.param(
            [Span("l", "x", L)],
            {"x": "trace"},
            "what hangs below a span that nobody has seen is of no known root span",
            id="lost parent",
        ),
        pytest.param(
            [Span("l", "x", L, task="1")], {"x": "1"}, "unless it says itself to which task it belongs", id="hint"
        ),
        pytest.param(
            [Span("a", "b", A, "ann"), Span("b", "a", A, "ann")],
            {"a": "a", "b": "a"},
            "root spans in a circle have one top, the first",
            id="circle",
        ),
    ],
)
def test_each_span_is_shown_in_the_task_of_its_root_span(
    spans: list[Span], tasks: dict[str, str], sentence: str
) -> None:
    """Roles, names and ids place root spans and the spans between them, in any order of arrival."""
    for order in (spans, spans[::-1]):
        assert shown(app_of(order)) == tasks, sentence
        assert shown(app_of(*([span] for span in order))) == tasks, f"one by one: {sentence}"


@pytest.mark.parametrize(
    ("first", "then", "before", "after", "sentence"),
    [
        pytest.param(
            [Span("l", "x", L)],
            [Span("x", "", A, "ann")],
            {"x": "trace"},
            {"x": "x"},
            "a root span that comes late takes over what lies below it",
            id="late root span",
        ),
        pytest.param(
            [Span("l", "x", L)],
            [Span("x", "a", S), Span("a", "", A, "ann")],
            {"x": "trace"},
            {"a": "a"},
            "a span that turns out to be no root span hands on what it owned",
            id="late step",
        ),
        pytest.param(
            [started("x", "a", Role.OTHER), Span("a", "", A, "ann"), Span("b", "x", A, "bob")],
            [Span("x", "a", T)],
            {"a": "a", "x": "a", "b": "b"},
            {"a": "a", "b": "b"},
            "a span that had no role yet owned a part of its task until its end",
            id="late tool",
        ),
        pytest.param(
            [Span("w", "", W), Span("a", "w", A, "ann")],
            [Span("b", "w", A, "bob")],
            {"w": "w", "a": "w"},
            {"w": "w", "a": "a", "b": "b"},
            "a second agent makes the first one's part a task",
            id="second agent",
        ),
        pytest.param(
            [started("s", "a", S), Span("a", "", A, "ann"), Span("b", "s", W, "bob")],
            [Span("s", "a", T)],
            {"a": "a", "s": "a", "b": "a"},
            {"a": "a", "b": "b"},
            "a root span below what turns out to be a tool call becomes a child task",
            id="tool after all",
        ),
        pytest.param(
            [started("s", "a", Role.HANDOFF), Span("a", "", A, "ann"), Span("b", "s", W)],
            [Span("s", "a", T)],
            {"a": "a", "b": "a"},
            {"a": "a", "b": "b"},
            "also where that span owned nothing",
            id="tool instead of a handoff",
        ),
    ],
)
def test_what_is_shown_elsewhere_when_more_is_known(
    first: list[Span], then: list[Span], before: dict[str, str], after: dict[str, str], sentence: str
) -> None:
    """A second batch may change the conclusions of the first; one batch with both gives the same tasks."""
    assert shown(app_of(first)) == before, sentence
    assert shown(app_of(first, then)) == after, sentence
    assert shown(app_of([*first, *then])) == after, sentence


def steps_of(app: Fold, task: str) -> list[str]:
    state = app.states.state(state_key(DOMAIN, of_id(task)))
    assert state is not None
    return sorted(fact.value.name for fact in state.facts.acts.values())


ROOT_SPANS = [Span("a", "", A, "ann"), Span("b", "a", A, "bob")]
EARLY, LATE = started("t", "b", T, tool="delegate"), Span("t", "a", T, tool="delegate")


@pytest.mark.parametrize(
    ("batches", "sentence"),
    [
        pytest.param([[*ROOT_SPANS, EARLY, LATE]], "all at once", id="one batch"),
        pytest.param([ROOT_SPANS, [EARLY], [LATE]], "its start first", id="start first"),
        pytest.param([ROOT_SPANS, [LATE], [EARLY]], "its end first", id="end first"),
        pytest.param([[EARLY], [LATE], ROOT_SPANS], "the root spans last", id="root spans last"),
    ],
)
def test_a_step_goes_with_its_call_when_the_end_hangs_elsewhere(batches: list[list[Span]], sentence: str) -> None:
    """A tool call is a step of the task in which its end lies, also when its start hung below another agent."""
    app = app_of(*batches)
    assert (steps_of(app, "a"), steps_of(app, "b")) == (["delegate"], []), sentence


def test_a_call_that_goes_on_is_a_step_where_it_lies_now() -> None:
    """A later copy of a running call that hangs elsewhere moves all facts of the call."""
    app = app_of(ROOT_SPANS, [EARLY], [started("t", "a", T, tool="delegate")])
    assert (steps_of(app, "a"), steps_of(app, "b")) == (["delegate"], [])
    subtrees = {id: app.states.subtree(subtree_key(DOMAIN, of_id(id))) for id in "ab"}
    assert {id: len(subtree.unended) for id, subtree in subtrees.items() if subtree is not None} == {"a": 1, "b": 0}


def test_a_task_that_loses_its_last_span_is_gone_and_says_where_it_went() -> None:
    """A root span that comes late takes over the spans that the trace's own task had; that task is dropped."""
    before = app_of([Span("l", "x", L)])
    assert before.states.state(state_key(DOMAIN)) is not None
    root_span = Observation(part=Part.ENDED, trace_id=TRACE, span_id=of_id("x"), at_ns=2, start_ns=1, end_ns=2)
    before.span(0, placed(root_span, Reading(role=A, agent_name="ann")))
    before.close()
    assert before.states.gone == {state_key(DOMAIN): state_key(DOMAIN, of_id("x"))}
    assert before.states.state(state_key(DOMAIN)) is None


@pytest.mark.parametrize(
    ("owner", "figures", "sentence"),
    [
        pytest.param(b"any", (ONE_CALL, ZERO, ToolCount(2, 1)), "calls and tools are the task's", id="calls"),
        pytest.param(
            METERED,
            (ZERO, ONE_CALL, NO_COUNT),
            "data points are kept apart, and their tools are none",
            id="data points",
        ),
    ],
)
def test_figures_of_data_points_are_kept_apart(owner: bytes, figures: tuple[object, ...], sentence: str) -> None:
    """A task adds the changes of its owners' figures, and subtracts them again."""
    state = TaskState()
    add_figures(state, b"run", owner, SubtreeFigures(ONE_CALL, ToolCount(2, 1), {"gpt-x": ONE_CALL}))
    assert (state.amounts, state.metered, state.tools) == figures, sentence
    back = minus(ZERO, ONE_CALL)
    add_figures(state, b"run", owner, SubtreeFigures(back, ToolCount(-2, -1), {"gpt-x": back}))
    assert (plus(state.amounts, state.metered), state.models, state.metered_models) == (ZERO, {}, {})
