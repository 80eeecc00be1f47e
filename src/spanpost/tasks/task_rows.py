"""The row of a task: what is shown of it, from its merged facts, its verdict and the tasks around it."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from spanpost import semconv as c
from spanpost.model.ids import uuid_of
from spanpost.model.messages import LocaleMessage
from spanpost.model.observations import MAX_NS
from spanpost.model.readings import Approval, Artifact, Failure
from spanpost.model.tasks import Step, Task
from spanpost.tasks import acts, approvals, evaluations
from spanpost.tasks.amounts import as_usage
from spanpost.tasks.context import window_of
from spanpost.tasks.context_use import ContextUse, ahead
from spanpost.tasks.fact_values import LifetimeTokens, StepBegin, StepNow
from spanpost.tasks.facts import Fact, Facts, time_of, value_of
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.loop_findings import loop_of
from spanpost.tasks.names import name_of
from spanpost.tasks.records import NO_AGENTS, AgentsBelow, ChildTasks, Run, TaskState
from spanpost.tasks.runs import newest_run, runs_of
from spanpost.tasks.status import TaskVerdict
from spanpost.tasks.times import moment
from spanpost.tasks.usage import figures, unpriced
from spanpost.tasks.work import Key
from spanpost.text.wording import message, unpacked, worded

T = TypeVar("T")
_NO_STEP = StepNow()


def as_task(
    state: TaskState,
    verdict: TaskVerdict,
    use: ContextUse,
    rules: FoldRules,
    *,
    parent: TaskState | None,
    root: TaskState,
    is_announced: bool,
    children: Mapping[bytes, bool],
    agents: AgentsBelow = NO_AGENTS,
    agents_at_work: LocaleMessage | None = None,
    team: Collection[str] = (),
) -> Task:
    """Return the row of a task; `is_announced`: its root is."""
    facts = state.facts
    run = newest_run(state) or Run()
    whole = figures(state)
    usage = as_usage(whole)
    is_aggregate = usage.input is None and usage.output is None and state.amounts.calls == 0
    aggregate = value_of(facts.aggregate) if is_aggregate else None
    window = use.window
    if aggregate is not None and state.before is not None and value_of(facts.totals_of) is not None:
        aggregate = aggregate.minus(*state.before)
    elif aggregate is not None and max(state.stated.input_calls, state.stated.output_calls) > 1:
        runs_stated = as_usage(state.stated)
        aggregate = LifetimeTokens(runs_stated.input, runs_stated.output)
    runs = runs_of(state)
    steps = _steps(facts, runs)
    if facts.steps and verdict.is_over and verdict.status == c.ERROR:
        steps = _failed(steps, value_of(facts.step))
    messages: dict[str, LocaleMessage] = {}

    def text(field: str, said: LocaleMessage | str | None) -> str | None:
        if not isinstance(said, LocaleMessage):
            return said
        messages[field] = said
        return worded(said)[0]

    step = value_of(facts.step) or _NO_STEP
    step_name = step.name
    if step.index is None and steps and steps[-1].name.endswith(f". {step.name}"):
        step, step_name = _NO_STEP, text("step_name", steps[-1].message or steps[-1].name)
    elif step.message is not None:
        step_name = text("step_name", unpacked(step.message))
    parent_id = public_id(parent) if parent is not None else value_of(facts.parent_id)
    task_id = public_id(state)
    name = name_of(state, team)
    failure = verdict.failure if verdict.status == c.ERROR else None
    if failure is not None and verdict.reason is not None:
        messages["error"] = verdict.reason
    if len(runs) == 1:
        started = run.start_ns or facts.first_ns
    else:
        started = min((s.start_ns for s in runs.values() if s.start_ns), default=0) or facts.first_ns
    end_ns = verdict.ended_ns if verdict.is_over else 0
    task = Task(
        uid=uuid_of(state.uid),
        tenant=state.tenant,
        task_id=task_id,
        aliases=_aliases(state),
        parent_uid=uuid_of(parent.uid) if parent is not None else None,
        parent_task_id=parent_id,
        root_uid=uuid_of(root.uid),
        message_uid=uuid_of(root.reported.message_uid),
        trace_id=run.trace_id or state.trace_id,
        span_id=run.span_id or state.span_id,
        name=name,
        type=value_of(facts.type),
        agent_name=value_of(facts.agent_name) or value_of(facts.agent_label),
        agent_id=value_of(facts.agent_id),
        agent_version=value_of(facts.agent_version),
        service=value_of(facts.service),
        environment=value_of(facts.environment),
        repo=value_of(facts.repo),
        topic=value_of(facts.topic),
        requested_by=value_of(facts.requested_by),
        retry_of=value_of(facts.retry_of),
        caused_by=value_of(facts.caused_by),
        order_id=value_of(facts.order_id),
        session_id=value_of(facts.conversation),
        status=verdict.status,
        end_reason=verdict.end_reason,
        is_inferred=verdict.is_inferred,
        rule=verdict.rule,
        is_announced=is_announced,
        progress=100.0 if verdict.status == c.COMPLETE and facts.progress is not None else value_of(facts.progress),
        action=text("action", _action(facts, verdict, agents_at_work)),
        last_checkpoint=text("last_checkpoint", unpacked(value_of(facts.checkpoint))),
        last_checkpoint_at=moment(min(time_of(facts.checkpoint), end_ns or MAX_NS)),
        is_named=facts.is_named is not None,
        ask=value_of(facts.ask) or None,
        answer=value_of(facts.answer) or None,
        step_name=step_name,
        step_index=step.index,
        step_count=_step_count(facts, step),
        started_at=moment(started),
        ended_at=moment(end_ns) if verdict.is_over else None,
        last_event_at=moment(facts.last_ns),
        last_activity_at=moment(end_ns or facts.active_ns or facts.first_ns),
        runs=max(1, len(runs)),
        input_tokens=aggregate.input if aggregate is not None else usage.input,
        output_tokens=aggregate.output if aggregate is not None else usage.output,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=usage.cache_write,
        reasoning_tokens=usage.reasoning,
        cost_usd=usage.cost_usd,
        unpriced_calls=max(0, unpriced(whole) - (0 if verdict.is_over else _open_calls(facts))),
        context_used_tokens=use.used,
        context_window_tokens=window.tokens if window is not None else None,
        context_window_source=window.source if window is not None else "",
        context_model=use.model,
        context_max_output_tokens=window_of(use.model, rules.outputs) if rules.outputs else None,
        context_forecast=None if verdict.is_over else ahead(use, rules),
        loop=None if verdict.is_over else loop_of(state, rules.loops),
        model=value_of(facts.model),
        llm_calls=state.amounts.calls,
        tool_calls=state.tools.calls,
        tool_errors=state.tools.failed,
        error_count=state.errors,
        child_count=len(children),
        child_failed=sum(children.values()),
        working_children=agents.working,
        waiting_children=agents.waiting,
        failed_children=agents.failed,
        done_children=agents.done,
        open_child_approvals=agents.questions,
        child_question=agents.question or None,
        child_question_uid=uuid_of(agents.asker) if agents.asker else None,
        steps=steps,
        artifacts=_artifacts(facts),
        evaluations=evaluations.evaluations(facts, state.tenant) if facts.evaluations else (),
        approvals=_approvals(state, verdict, rules) if facts.asks or facts.answers or facts.claimed_answers else (),
        is_muted=acts.is_muted(state),
        cancel_by=(cancel_by := text("cancel_by", acts.cancel_by(state)) or ""),
        cancel_at=moment(time_of(facts.cancel_asked)) if cancel_by else None,
        paused_by=text("paused_by", acts.paused_by(state)) or "",
        links=_by_name(facts.links),
        results=_by_name(facts.results),
        attributes=_by_name(facts.attributes),
        error=Failure(type=failure.type, message=failure.message, log_tail=failure.log_tail)
        if failure is not None
        else None,
        messages=messages,
    )
    return rules.approvals.applied(task, rules.people)


def _by_name(entries: Mapping[str, Fact[T]]) -> dict[str, T]:
    return {name: entries[name].value for name in sorted(entries)}


def public_id(state: TaskState) -> str:
    """Return the highest-ranked alias known."""
    if state.is_conversation:
        return f"conversation-{state.uid.hex()}"
    return state.task_id or value_of(state.facts.alias) or _span_id(state)


def _span_id(state: TaskState) -> str:
    return f"{state.trace_id.hex()}-{state.span_id.hex()}" if state.span_id else state.trace_id.hex()


def _aliases(state: TaskState) -> tuple[str, ...]:
    newest = newest_run(state)
    has_many = bool(state.task_id) or state.is_conversation
    span = f"{newest.trace_id.hex()}-{newest.span_id.hex()}" if has_many and newest is not None else _span_id(state)
    known = (public_id(state), value_of(state.facts.alias), span)
    return tuple(dict.fromkeys(a for a in known if a))


def _steps(facts: Facts, runs: Mapping[Key, Run]) -> tuple[Step, ...]:
    entries = facts.steps
    if not entries:
        return _acts(facts, sorted(run.start_ns for run in runs.values() if run.calls_again))
    order = sorted([(step.index is None, step.index or 0, step.began_ns, entry) for entry, step in _values(entries)])
    return tuple(_step(n, entry, entries[entry].value) for n, (_, _, _, entry) in enumerate(order, 1))


def _values(entries: Mapping[str, Fact[T]]) -> list[tuple[str, T]]:
    return [(entry, fact.value) for entry, fact in entries.items()]


def _step(n: int, entry: str, step: StepBegin) -> Step:
    said = unpacked(step.message) or step.name
    if step.index is None and entry[0] != "~":  # a prompt has no name of its own: its number distinguishes it
        said = message("task.nth_step", n=n, name=said)
    text, rendered = worded(said)
    return Step(name=text, index=step.index, at=moment(step.began_ns), message=rendered)


def _step_count(facts: Facts, step: StepNow) -> int | None:
    """Return the number of steps: as stated with this step, else the one stated last, if the step is within it."""
    known = facts.step_count
    if step.count is not None or step.index is None or known is None or facts.step is None:
        return step.count
    return known.value if known.priority == facts.step.priority and step.index <= known.value else None


def _failed(steps: tuple[Step, ...], now: StepNow | None) -> tuple[Step, ...]:
    """Return the steps of a task that failed: the present one failed, too."""
    index = now.index if now is not None else None
    at = next((n for n, step in enumerate(steps) if index is not None and step.index == index), len(steps) - 1)
    return (*steps[:at], replace(steps[at], is_failed=True), *steps[at + 1 :])


def _action(facts: Facts, verdict: TaskVerdict, agents_at_work: LocaleMessage | None) -> LocaleMessage | str | None:
    """Return the current action: as reported, else its working agents, else the call that is open."""
    if facts.action is not None:
        return facts.action.value
    if agents_at_work or verdict.is_over:
        return agents_at_work
    # What a start reports was seen live, and holds until its end.
    if (doing := value_of(facts.doing)) is not None:
        return unpacked(doing)
    is_open = [(call.began_ns, call.name) for _, call in _values(facts.acts) if not call.ended_ns]
    return message("task.tool", name=max(is_open)[1]) if is_open else None


def _open_calls(facts: Facts) -> int:
    """Return 1 while a model call is the newest thing that began: it has no price yet."""
    doing = value_of(facts.doing)
    return 1 if isinstance(doing, list) and doing[0] in ("task.model", "task.asking_model") else 0


def _acts(facts: Facts, again_ns: Sequence[int]) -> tuple[Step, ...]:
    """Return the tool calls as steps, for an agent without steps.

    A call in several layers is one, and calls of one tool in a row are one step: "read_file ×5". A call that asked
    a person was made before where it is made again: in the same run, or as the first call since one of `again_ns`.
    """
    entries = facts.acts
    if not entries:
        return ()
    rows: list[tuple[str, int, int]] = []
    last, last_ended_ns, made_again = "", 0, 0
    asking = Counter[str]()
    calls = [(call.began_ns, -call.ended_ns, entry, call.name, call.asks) for entry, call in _values(entries)]
    for began_ns, ended, _, name, asks in sorted(calls):
        if name == last and began_ns < last_ended_ns:
            continue
        since = bisect_right(again_ns, began_ns)
        is_again, made_again = since > made_again, since
        if asking[name] and (is_again or not asks):
            is_again = True
            asking[name] -= 1
        asking[name] += asks
        if not is_again and rows and rows[-1][0] == name:
            rows[-1] = (name, rows[-1][1], rows[-1][2] + 1)
        elif not is_again:
            rows.append((name, began_ns, 1))
        last, last_ended_ns = name, -ended
    return tuple(
        Step(name=f"{name} ×{count}" if count > 1 else name, at=moment(began_ns), count=count)
        for name, began_ns, count in rows
    )


def _approvals(state: TaskState, verdict: TaskVerdict, rules: FoldRules) -> tuple[Approval, ...]:
    asked = approvals.approvals(state.facts, state.tenant, rules.approvals)
    return approvals.ended(asked, verdict.status, verdict.end_reason) if verdict.is_over else asked


def _artifacts(facts: Facts) -> tuple[Artifact, ...]:
    entries = sorted(facts.artifacts.items(), key=lambda item: (item[1].at_ns, item[0]))
    return tuple(Artifact(name=fact.value.name, uri=fact.value.uri, kind=fact.value.kind) for _, fact in entries)


def agents_at_work(child_tasks: ChildTasks, state_of: Callable[[Key], TaskState | None]) -> LocaleMessage | None:
    """Return the working agents of a task: "2 of 8 agents at work: planner, writer"."""
    if not child_tasks.at_work:
        return None
    names = []
    for key in sorted(child_tasks.at_work)[:3]:
        child = state_of(key)
        name = value_of(child.facts.name) if child is not None else None
        if name:
            names.append(str(name))
    many = len(child_tasks.tasks)
    some = (
        message("task.agents_at_work", open=len(child_tasks.at_work), all=many)
        if many > 1
        else message("task.agent_at_work")
    )
    return message("checkpoint.with_words", text=some, words=", ".join(sorted(names))) if names else some
