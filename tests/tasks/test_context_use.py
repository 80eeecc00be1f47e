"""How full a context is: which window holds, which limits have a warning, and where both are shown."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any

import msgspec
import pytest

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.observations import Observation
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.sinks import labels
from spanpost.store.memory import MemoryStore
from spanpost.tasks.context import ContextRules, Window, Windows, resolve
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.task_rules import TaskRules
from spanpost.testing.builders import SECOND, a_span, an_event
from tests.tasks import recorded_runs

TABLE = {"gpt-x": 1000, "gpt-y": 200_000, "gpt-z": 5_000}
KNOWN = Windows(TABLE, frozenset({"gpt-z"}))


@pytest.mark.parametrize(
    ("model", "how", "found"),
    [
        ("gpt-z", {"said": 9_000, "accepted": 9_000}, Window(5_000, "given")),
        ("openai/gpt-z-2026-01-01", {}, Window(5_000, "given")),
        ("gpt-y", {"said": 50_000, "accepted": 60_000}, Window(50_000, "said")),
        (None, {"said": 50_000}, Window(50_000, "said")),
        ("unheard-of[1m]", {}, Window(1_000_000, "said")),
        ("gpt-y", {"accepted": 200_001}, Window(262_144, "observed")),
        ("gpt-y", {"accepted": 700_000}, Window(1_000_000, "observed")),
        ("gpt-y", {"accepted": 9_000_000}, Window(9_000_000, "observed")),
        ("gpt-y", {"accepted": 200_000}, Window(200_000, "table")),
        ("unheard-of", {"accepted": 900_000}, None),
        (None, {}, None),
    ],
)
def test_the_surest_window_holds(model: str | None, how: dict[str, Any], found: Window | None) -> None:
    """A given window beats a reported, an observed and a listed one, in this order; an unknown one is not guessed."""
    assert resolve(model, KNOWN, **how) == found


def test_a_default_is_the_last_resort() -> None:
    """The default window holds for an unknown model until that model accepts more."""
    known = Windows(TABLE, default=32_000)
    assert resolve("unheard-of", known) == Window(32_000, "default")
    assert resolve(None, known) == Window(32_000, "default")
    assert resolve("unheard-of", known, accepted=40_000) == Window(65_536, "observed")
    assert resolve("gpt-y", known) == Window(200_000, "table")


RULES = FoldRules(windows=TABLE)


def a_call(
    at: int, used: int, *, trace: int = 1, model: str = "gpt-x", conversation_id: str = "", **more: Any
) -> Observation:
    """Return a model call of a second that ended at that second, below the root span of its trace."""
    said = {"gen_ai.conversation.id": conversation_id} if conversation_id else {}
    return a_span(
        trace=trace, span=at + 10, parent=1, name="chat", start=(at - 1) * SECOND, end=at * SECOND,
        attributes={
            "gen_ai.operation.name": "chat", "gen_ai.response.model": model, "gen_ai.usage.input_tokens": used,
            "gen_ai.usage.output_tokens": 1, **said, **more,
        },
    )  # fmt: skip


def a_root_span(
    *, trace: int = 1, end: int | None = 1000, start: int = 0, name: str = "ann", **more: Any
) -> Observation:
    at = None if end is None else end * SECOND
    return a_span(
        trace=trace,
        span=1,
        start=start * SECOND,
        end=at,
        attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name, **more},
    )


def outcome_of(batches: list[list[Observation]], rules: FoldRules = RULES) -> tuple[list[Task], list[Checkpoint]]:
    """Return the tasks, and the checkpoints about their contexts, in order."""
    store = MemoryStore(rules)
    for batch in batches:
        store.record_now(batch)
    kinds = (Kind.CONTEXT_WARNING, Kind.CONTEXT_FORECAST, Kind.COMPACTION)
    checkpoints = [c for c in store.checkpoints_now(limit=10**9) if c.kind in kinds]
    return store.tasks_now(TaskQuery(limit=100)), sorted(checkpoints, key=lambda c: (c.at, c.kind, c.ref))


def warnings_of(batches: list[list[Observation]], rules: FoldRules = RULES) -> list[tuple[str, str]]:
    return [(str(c.kind), c.ref) for c in outcome_of(batches, rules)[1]]


def test_each_turn_of_a_conversation_may_be_a_task() -> None:
    """A conversation with a trace and a task per turn has one warning per climb, and a forecast over its turns."""
    turns = [
        [
            a_call(at * 10, used, trace=at, conversation_id="talk"),
            a_root_span(trace=at, start=at * 10 - 2, end=at * 10 + 1),
        ]
        for at, used in enumerate((200, 350, 500, 650, 800, 950, 980), 1)
    ]
    rules = a_task_a_turn()
    tasks, checkpoints = outcome_of(turns, rules)
    assert len(tasks) == 7
    assert [(str(c.kind), c.ref) for c in checkpoints] == [
        ("context_forecast", "85"), ("context_warning", "70"), ("context_warning", "85")
    ]  # fmt: skip
    assert len({c.task_uid for c in checkpoints}) == 3
    # the same as one batch, and each turn live: its root span first
    expected = warnings_of(turns, rules)
    assert warnings_of([[o for turn in turns for o in turn]], rules) == expected
    assert warnings_of([[o] for turn in turns for o in (msg_started(turn[1]), *turn)], rules) == expected
    assert warnings_of(turns) == expected  # as one task, too


def a_task_a_turn() -> FoldRules:
    return msgspec.structs.replace(RULES, tasks=TaskRules(conversations="a task a turn"))


def msg_started(root_span: Observation) -> Observation:
    return a_root_span(
        trace=int.from_bytes(root_span.trace_id, "big"),
        start=(root_span.start_ns - a_span().start_ns) // SECOND,
        end=None,
    )


def test_without_a_conversation_each_task_has_its_own_climb() -> None:
    """Tasks without a common conversation have a warning each."""
    turns = [[a_call(at * 10, used, trace=at), a_root_span(trace=at)] for at, used in enumerate((710, 720), 1)]
    assert warnings_of(turns) == [("context_warning", "70")] * 2


def test_agents_and_models_of_one_conversation_are_measured_apart() -> None:
    """Two agents, or two models, that share a conversation do not change each other's climb."""
    batches = []
    for at in range(1, 9):
        name = "ann" if at % 2 else "bob"
        batches.append(
            [a_call(at * 10, 720 if at % 2 else 90, trace=at, conversation_id="t"), a_root_span(trace=at, name=name)]
        )
        batches.append([a_call(at * 10 + 1, 100, trace=at, conversation_id="t", model="gpt-y")])
    assert warnings_of(batches) == [("context_warning", "70")]


def test_a_cap_in_tokens_is_warned_of_whatever_the_window() -> None:
    """A cap warns once per climb, with a window and without one, and has a forecast."""
    rules = FoldRules(windows=TABLE, context=ContextRules(warn_tokens=(1_500, 3_000)))
    for model in ("gpt-y", "unheard-of"):
        calls = [a_call(at, 500 * at, model=model) for at in range(1, 8)]
        assert warnings_of([[a_root_span(end=None)], *([c] for c in calls)], rules) == [
            ("context_forecast", "3000 tokens"), ("context_warning", "1500 tokens"), ("context_warning", "3000 tokens"),
        ]  # fmt: skip


def test_a_forecast_is_reported_once_per_climb_and_again_after_a_compaction() -> None:
    """A climb has one forecast and two warnings; the climb after a compaction has them again."""
    climb = [200, 330, 460, 590, 720, 850]
    calls = [a_call(at, used) for at, used in enumerate([*climb, *climb], 1)]
    _, checkpoints = outcome_of([[a_root_span(end=None)], *([c] for c in calls)])
    one_climb = [("context_forecast", "85"), ("context_warning", "70"), ("context_warning", "85")]
    assert [(str(c.kind), c.ref) for c in checkpoints] == [*one_climb, ("compaction", "inferred"), *one_climb]
    assert len({c.id for c in checkpoints}) == 7
    assert "(inferred from the drop)" in next(c.text for c in checkpoints if c.kind is Kind.COMPACTION)


def test_settings_turn_the_forecast_off() -> None:
    """With neither calls nor seconds no limit is warned of ahead, and the row still has the forecast."""
    rules = FoldRules(windows=TABLE, context=ContextRules(ahead_calls=0, ahead=timedelta(0)))
    calls = [a_call(at, 100 * at) for at in range(1, 7)]
    tasks, checkpoints = outcome_of([[a_root_span(end=None), *calls]], rules)
    assert checkpoints == []
    assert tasks[0].context_forecast is not None
    assert (tasks[0].context_forecast.limit, tasks[0].context_forecast.calls, tasks[0].status) == ("85 %", 3, "working")


def test_a_near_limit_is_a_status() -> None:
    """A task that will soon reach a limit has the status of a warning; an ended task has no forecast."""
    calls = [a_call(at, 100 * at) for at in range(1, 7)]
    (task,), _ = outcome_of([[a_root_span(end=None), *calls]])
    assert (task.status, task.rule, task.is_inferred) == ("context_warning", "context forecast", True)
    assert labels.forecast(task) == "85 % in about 3 calls, 3 s"
    (ended,), _ = outcome_of([[a_root_span(end=None), *calls, a_root_span()]])
    assert (ended.status, ended.context_forecast, labels.forecast(ended)) == ("complete", None, "")


def test_a_reported_compaction_is_a_checkpoint_and_begins_a_climb() -> None:
    """A call and an event that report a compaction are one checkpoint each, marked as reported."""
    compacted = {"gen_ai.conversation.compacted": True}
    _, checkpoints = outcome_of(
        [[a_root_span(end=None)], [a_call(1, 800)], [a_call(2, 750, **compacted)], [a_call(3, 760)]]
    )
    assert [(str(c.kind), c.ref, c.text) for c in checkpoints if c.kind is Kind.COMPACTION] == [
        ("compaction", "said", "Context compacted")
    ]
    assert [c.ref for c in checkpoints if c.kind is Kind.CONTEXT_WARNING] == ["70", "70"]

    event = an_event(on=a_root_span(), name="agent.context.compacted", at=3 * SECOND // 2, attributes={
        "agent.context.before_tokens": 800, "agent.context.used_tokens": 100})  # fmt: skip
    calls = [[a_call(1, 800)], [event], [a_call(2, 100)], [a_call(3, 110)], [a_call(4, 710)]]
    _, checkpoints = outcome_of([[a_root_span(end=None)], *calls])
    assert [(str(c.kind), c.text) for c in checkpoints if c.kind is Kind.COMPACTION] == [
        ("compaction", "Context compacted: 800 → 100 tokens")
    ]  # fmt: skip
    assert [c.ref for c in checkpoints if c.kind is Kind.CONTEXT_WARNING] == ["70", "70"]


def test_a_compaction_that_is_said_late_takes_the_place_of_the_inferred_one() -> None:
    """An inferred compaction is retracted when the agent's own record of it comes later; another drop stays."""
    event = an_event(on=a_root_span(), name="agent.context.compacted", at=3 * SECOND // 2, attributes={
        "agent.context.before_tokens": 800, "agent.context.used_tokens": 100})  # fmt: skip
    calls = [[a_root_span(end=None)], [a_call(1, 800)], [a_call(2, 100)], [a_call(3, 110)]]
    _, before = outcome_of(calls)
    assert [c.ref for c in before if c.kind is Kind.COMPACTION] == ["inferred"]
    _, after = outcome_of([*calls, [event]])
    assert [c.ref for c in after if c.kind is Kind.COMPACTION] == ["said"]
    later = an_event(on=a_root_span(), name="agent.context.compacted", at=9 * SECOND, attributes={})
    _, both = outcome_of([*calls, [later]])
    assert [c.ref for c in both if c.kind is Kind.COMPACTION] == ["inferred", "said"]


@pytest.mark.slow
def test_any_order_shows_the_same_use() -> None:
    """Use, window, its source and the forecast are the same for any order of a handful of calls."""
    calls = [a_call(1, 300), a_call(2, 400), a_call(3, 500, model="gpt-y"), a_call(4, 520), a_call(5, 600)]
    shown = set()
    for order in permutations([a_root_span(end=None), *calls]):
        (task,), _ = outcome_of([[o] for o in order])
        forecast = task.context_forecast and (task.context_forecast.calls, task.context_forecast.seconds)
        shown.add(
            (
                task.context_used_tokens,
                task.context_window_tokens,
                task.context_window_source,
                task.context_model,
                forecast,
            )
        )
    assert shown == {(600, 1000, "table", "gpt-x", (3, 3.0))}


def test_a_small_call_between_does_not_hide_the_large_context() -> None:
    """The task shows the fullest context of its models."""
    (task,), _ = outcome_of([[a_root_span(end=None), a_call(1, 650), a_call(2, 900, model="gpt-y")]])
    assert (task.context_used_tokens, task.context_window_tokens, task.context_model) == (650, 1000, "gpt-x")


def test_how_the_window_is_known_is_shown() -> None:
    """The warning's text and the label of the window name the source; a failed call accepts no tokens."""
    cases = [
        ([a_call(1, 720)], "table"),
        ([a_call(1, 720, **{"agent.context.window_tokens": 1000})], "said"),
        ([a_call(1, 3_900, model="gpt-z")], "given"),
        ([a_call(1, 200_001, model="gpt-y")], "observed"),
    ]
    for calls, source in cases:
        rules = FoldRules(windows=TABLE, given_windows=frozenset({"gpt-z"}))
        (task,), checkpoints = outcome_of([[a_root_span(end=None), *calls]], rules)
        assert task.context_window_source == source
        assert labels.window(task).endswith(f"({source})")
        assert f"window: {source}" in checkpoints[0].text


def test_a_span_around_several_calls_says_nothing_of_the_context() -> None:
    """The sum of a run's calls on a span around them, as Mastra's bridge writes it, is no use of the context."""
    from spanpost.model.queries import TaskQuery
    from spanpost.store.memory import MemoryStore
    from spanpost.testing.builders import SECOND, a_span

    asked = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
    generation = a_span(
        span=2, parent=1, start=SECOND, end=8 * SECOND, attributes={**asked, "gen_ai.usage.input_tokens": 120_000}
    )
    step = a_span(
        span=3, parent=2, start=2 * SECOND, end=5 * SECOND, attributes={"gen_ai.operation.name": "model_step"}
    )
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "weather"}
    ran = a_span(span=4, parent=3, start=3 * SECOND, end=4 * SECOND, attributes=tool)
    beside = a_span(span=4, parent=1, start=3 * SECOND, end=4 * SECOND, attributes=tool)
    agent = a_span(attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"})
    for spans, used in (([ran, step, generation, agent], None), ([beside, generation, agent], 120_000)):
        store = MemoryStore()
        store.record_now(spans)
        (task,) = store.tasks_now(TaskQuery(limit=9))
        assert (task.input_tokens, task.context_used_tokens) == (120_000, used)


def a_tool(at: int, end: int, *, trace: int = 1) -> Observation:
    """Return a tool call below the root span of its trace."""
    return a_span(
        trace=trace, span=at + 100, parent=1, name="execute_tool", start=at * SECOND, end=end * SECOND,
        attributes={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "delegate"},
    )  # fmt: skip


def compactions_of(batches: list[list[Observation]]) -> list[str]:
    return [c.ref for c in outcome_of(batches)[1] if c.kind is Kind.COMPACTION]


@pytest.mark.parametrize("uses", [(800, 100, 110), (100, 800, 200, 210)])
@pytest.mark.parametrize("is_late", [False, True])
def test_the_context_of_another_agent_within_a_tool_is_no_compaction(uses: tuple[int, ...], is_late: bool) -> None:
    """A call within a tool has a context of its own: before a drop or after it, and if the tool is known later."""
    calls = [[a_call(2 * at, used)] for at, used in enumerate(uses, 1)]
    within = [[a_tool(3, 9)]] if len(uses) == 3 else [[a_tool(3, 5)]]
    batches = [*calls, *within] if is_late else [*within, *calls]
    assert compactions_of([[a_root_span(end=None)], *calls]) == ["inferred"]
    assert compactions_of([[a_root_span(end=None)], *batches]) == []


def test_a_session_that_begins_anew_is_no_compaction() -> None:
    """A session or thread id that is used again with an empty history is a new context and no compaction; within one
    run of the session a drop is.
    """

    def turn(trace: int, first: int, *uses: int) -> list[list[Observation]]:
        root = a_root_span(trace=trace, start=first - 1, end=first + 9, **{"gen_ai.conversation.id": "sess-1"})
        calls = [[a_call(at, used, trace=trace, conversation_id="sess-1")] for at, used in enumerate(uses, first)]
        return [*calls, [root]]

    assert compactions_of([*turn(1, 1, 700, 800), *turn(2, 20, 100, 110, 120)]) == []
    assert compactions_of([*turn(1, 1, 700, 800), *turn(2, 20, 820, 100, 110)]) == ["inferred"]


def test_the_calls_of_another_agent_are_no_compaction() -> None:
    """Calls in one task that name another agent have another context."""
    calls = [(800, "ann"), (100, "bob"), (110, "bob")]
    named = [[a_call(at, used, **{"gen_ai.agent.name": who})] for at, (used, who) in enumerate(calls, 1)]
    assert compactions_of([[a_root_span(end=None)], *named]) == []


def test_no_recording_shows_a_compaction_that_was_none() -> None:
    """Of the recorded runs, a co-worker's work in a tool of CrewAI is the one with a drop: nothing was compacted."""
    batch = recorded_runs.observations(recorded_runs.COMMITTED / "crewai-openinference" / "handoff")
    assert compactions_of([batch]) == []
    assert compactions_of([[o] for o in sorted(batch, key=lambda o: o.at_ns)]) == []
