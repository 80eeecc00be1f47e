"""A task to its row."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec.structs import replace

from spanpost import semconv as c
from spanpost.model.interventions import Verb
from spanpost.model.readings import Approval, Artifact, Failure
from spanpost.model.tasks import Step
from spanpost.model.tasks import Task as Row
from spanpost.semconv import TASK_NAME
from spanpost.tasks.records import DEPTH
from tests.tasks.oracle.context import use_of
from tests.tasks.oracle.facts import Facts
from tests.tasks.oracle.names import name_of
from tests.tasks.oracle.questions import moment, questions
from tests.tasks.oracle.rules import Rules
from tests.tasks.oracle.status import Verdict, asked
from tests.tasks.oracle.tasks import Task, Tasks


def row(task: Task, tasks: Tasks, rules: Rules) -> Row:
    """Return the row of a task."""
    facts, verdict, usage, newest = task.facts, task.verdict, task.usage, task.newest
    use = use_of(facts, rules)
    input_tokens, output_tokens = _tokens(task)
    steps = _steps(facts, [s.start_ns for s in task.task_runs if s.calls_again])
    step = facts.step or (None, None, None)
    if step[1] is None and steps and steps[-1].name.endswith(f". {step[0]}"):
        step = (steps[-1].name, None, None)
    if facts.steps and steps and verdict.is_over and verdict.status == c.ERROR:
        failed = next((s for s in steps if step[1] is not None and s.index == step[1]), steps[-1])
        steps = tuple(replace(s, is_failed=s is failed) for s in steps)
    starts = [s.start_ns for s in task.task_runs if s.start_ns]
    cancelled, paused = (
        asked(facts, task.task_runs, Verb.CANCEL),
        asked(facts, task.task_runs, Verb.PAUSE, Verb.RESUME),
    )
    muted = asked(facts, [], Verb.MUTE, Verb.UNMUTE)
    failure = verdict.failure if verdict.status == c.ERROR else None
    root = task.root

    def said(field: str) -> Any:
        return facts.earliest(field, of_root_span=True)

    return Row(
        uid=task.uid,
        tenant=task.tenant,
        task_id=task.public_id,
        aliases=_aliases(task),
        parent_uid=task.parent.uid if task.parent is not None else None,
        parent_task_id=task.parent.public_id if task.parent is not None else said("task_parent_id"),
        root_uid=root.uid,
        is_announced=root.is_worth_a_message,
        trace_id=newest.trace_id or task.trace_id,
        span_id=newest.span_id or task.span_id,
        name=name_of(task),
        type=said("task_type"),
        agent_name=said("agent_name") or facts.agent_label,
        agent_id=said("agent_id"),
        agent_version=said("agent_version"),
        service=facts.earliest("service"),
        environment=facts.earliest("environment"),
        repo=said("repo"),
        topic=said("topic"),
        requested_by=said("requested_by"),
        retry_of=said("retry_of"),
        caused_by=said("caused_by"),
        order_id=said("order_id"),
        session_id=facts.conversation,
        status=verdict.status,
        end_reason=verdict.end_reason,
        is_inferred=verdict.is_inferred,
        rule=verdict.rule,
        progress=_progress(task),
        action=_action(task),
        last_checkpoint=facts.checkpoint.value if facts.checkpoint is not None else None,
        last_checkpoint_at=_checkpoint_at(facts, verdict),
        is_named=any(n.r.task_name and TASK_NAME in n.o.attributes for n, role, _ in facts.spans if role.is_root_span),
        ask=facts.words("ask"),
        answer=facts.words("answer"),
        step_name=step[0],
        step_index=step[1],
        step_count=_step_count(facts, step),
        steps=steps,
        started_at=moment(min(starts, default=0) or facts.first_ns),
        ended_at=moment(verdict.ended_ns) if verdict.is_over else None,
        last_event_at=moment(facts.last_ns),
        last_activity_at=moment((verdict.ended_ns if verdict.is_over else 0) or facts.active_ns or facts.first_ns),
        runs=len(task.task_runs),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=usage.tokens.get("cache_read"),
        cache_write_tokens=usage.tokens.get("cache_write"),
        reasoning_tokens=usage.tokens.get("reasoning"),
        cost_usd=usage.cost_usd,
        unpriced_calls=max(0, usage.unpriced - (not verdict.is_over and facts.is_asking_model)),
        context_used_tokens=use.used,
        context_window_tokens=use.tokens,
        context_window_source=use.window[1] if use.window is not None else "",
        context_model=use.model,
        context_max_output_tokens=rules.most_output(use.model),
        context_forecast=None if verdict.is_over else use.ahead(rules),
        model=facts.model,
        llm_calls=task.own_usage.calls,
        tool_calls=task.tools[0],
        tool_errors=task.tools[1],
        error_count=len(tasks.errors_of(task)),
        child_count=len(task.children),
        child_failed=sum(child.has_failed for child in task.children),
        **_agents(task),
        artifacts=_artifacts(facts),
        approvals=_questions(task),
        is_muted=muted is not None and muted.value.verb == Verb.MUTE,
        cancel_by=(cancelled.value.by or "a person") if cancelled is not None else "",
        cancel_at=moment(cancelled.at) if cancelled is not None else None,
        paused_by=(paused.value.by or "a person") if paused is not None and paused.value.verb == Verb.PAUSE else "",
        links=facts.by_name("links"),
        results=facts.by_name("results"),
        attributes=facts.attributes(rules.attributes),
        error=Failure(type=failure[0], message=failure[1], log_tail=failure[2]) if failure is not None else None,
    )


def _agents(task: Task) -> dict[str, Any]:
    """Return what the tasks below do and ask; of those in a cycle none counts what is above it."""
    found = _below(task)
    asked = [(q.asked_at, t.uid.bytes, q.question, t) for t in found for q in _questions(t) if q.is_open]
    first = min(asked, key=lambda a: a[:2], default=None)
    waiting = [t for t in found if t.verdict.status == "waiting" and not t.verdict.rule.startswith("session")]
    over = [t for t in found if t.verdict.is_over and t not in waiting]
    failed = [t for t in over if t.verdict.status == "error"]
    return {
        "working_children": len(found) - len(waiting) - len(over),
        "waiting_children": len(waiting),
        "failed_children": len(failed),
        "done_children": len(over) - len(failed),
        "open_child_approvals": len(asked),
        "child_question": first[2] or None if first is not None else None,
        "child_question_uid": first[3].uid if first is not None else None,
    }


def _below(task: Task) -> list[Task]:
    above = _above(task)
    passed = [child for child in task.children if child not in above and len(_above(child)) <= DEPTH]
    return [t for child in passed for t in (child, *_below(child))]


def _above(task: Task) -> list[Task]:
    found: list[Task] = []
    at = task.parent
    while at is not None and at is not task and at not in found:
        found.append(at)
        at = at.parent
    return found


def _questions(task: Task) -> tuple[Approval, ...]:
    """Return the questions; the end of a task closes those that nothing waits for."""
    verdict = task.verdict

    def is_ended(a: Approval) -> bool:
        if a.decision or a.is_void or not verdict.is_over or verdict.end_reason == "interrupted" or a.resume:
            return False
        return verdict.status in ("complete", "cancelled", "error") and not a.is_asked

    return tuple(replace(a, is_ended=is_ended(a)) for a in questions(task.facts, task.tenant))


def _tokens(task: Task) -> tuple[int | None, int | None]:
    """Return input and output: of the calls, else what a root span reports for all of them."""
    tokens, total = task.usage.tokens, task.facts.aggregate
    if tokens.keys() & {"input", "output"} or total is None or task.own_usage.calls:
        return tokens.get("input"), tokens.get("output")
    if task.before is not None and task.facts.totals_of is not None:
        (input_, output), (input_before, output_before) = total, task.before
        return (
            input_ - input_before if input_ is not None else None,
            output - output_before if output is not None else None,
        )
    stated = [
        b.best.r.aggregate
        for run in task.runs
        for b in run.owners
        if b.best is not None and b.best.is_end and b.is_root_span and not b.best.o.parent_id
        if b.best.r.aggregate is not None and not b.best.r.totals_of
    ]
    inputs, outputs = (
        [u.input for u in stated if u.input is not None],
        [u.output for u in stated if u.output is not None],
    )
    if max(len(inputs), len(outputs)) > 1:
        return sum(inputs) if inputs else None, sum(outputs) if outputs else None
    return total


def _aliases(task: Task) -> tuple[str, ...]:
    newest = task.newest
    span = f"{newest.trace_id.hex()}-{newest.span_id.hex()}" if task.task_id or task.is_conversation else task.span_name
    known = (task.public_id, task.facts.earliest("task_alias", of_root_span=True), span)
    return tuple(dict.fromkeys(alias for alias in known if alias))


def _checkpoint_at(facts: Facts, verdict: Verdict) -> datetime | None:
    """The time of the last checkpoint; one that is later than the task's end has its time."""
    if facts.checkpoint is None:
        return None
    at = facts.checkpoint.at
    return moment(min(at, verdict.ended_ns) if verdict.is_over and verdict.ended_ns else at)


def _action(task: Task) -> str | None:
    """Return the current action: the reported one, else its working agents, else the call that started last."""
    if task.facts.action is not None:
        return task.facts.action
    at_work = sorted((child for child in task.children if child.is_at_work), key=lambda child: child.key)
    if task.verdict.is_over:
        return None
    if at_work:
        many = len(task.children)
        text = f"{len(at_work)} of {many} agents at work" if many > 1 else "an agent at work"
        names = sorted(str(name) for child in at_work[:3] if (name := child.facts.own_name))
        return f"{text}: {', '.join(names)}" if names else text
    return task.facts.doing


def _progress(task: Task) -> float | None:
    """Return the newest progress; what is complete is done."""
    progress: float | None = task.facts.newest("progress")
    return 100.0 if progress is not None and task.verdict.status == c.COMPLETE else progress


def _step_count(facts: Facts, step: tuple[str | None, int | None, int | None]) -> int | None:
    """Return the number of steps: as stated with the step, else before, by the same kind of report."""
    _, index, count = step
    known = facts.step_count
    if count is not None or index is None or known is None:
        return count
    is_own = any(
        (n.r.step_name or (n.r.step_index is not None and n.r.says_something)) and not (n.r.is_plan or n.r.step_key)
        for n, *_ in facts.reported
    )
    return known.value if known.priority == int(is_own) and index <= known.value else None


def _steps(facts: Facts, again: list[int]) -> tuple[Step, ...]:
    """Return the steps that the agent reported; where it reported none, its tool calls, each once.

    `again`: starts of runs that begin with the call that the run before left open.
    """
    if facts.steps:
        reported = sorted(
            ((entry, *said.value) for entry, said in facts.steps.items()),
            key=lambda s: (s[2] is None, s[2] or 0, s[3], s[0]),
        )
        return tuple(
            Step(name=f"{n}. {name}" if index is None and entry[0] != "~" else name, index=index, at=moment(at))
            for n, (entry, name, index, at) in enumerate(reported, 1)
        )
    out: list[Step] = []
    former, ended_ns = "", 0
    asked: list[str] = []
    for entry, said in sorted(
        facts.tool_steps.items(), key=lambda item: (item[1].value[1], -item[1].value[2], item[0])
    ):
        del entry
        name, begins, ends, _, asks = said.value
        if name == former and begins < ended_ns:
            continue  # another layer's copy of the same call
        begun, again = [at for at in again if at <= begins], [at for at in again if at > begins]
        is_again = bool(begun)  # the first call of such a run
        if name in asked and (is_again or not asks):
            is_again = True  # a call that asked, made again
            asked.remove(name)
        asked += [name] * asks
        if is_again:
            pass
        elif out and out[-1].name == name:
            out[-1] = replace(out[-1], count=out[-1].count + 1)
        else:
            out.append(Step(name=name, at=moment(begins)))
        former, ended_ns = name, ends
    return tuple(replace(s, name=f"{s.name} ×{s.count}") if s.count > 1 else s for s in out)


def _artifacts(facts: Facts) -> tuple[Artifact, ...]:
    return tuple(said.value for _, said in sorted(facts.artifacts.items(), key=lambda item: (item[1].at, item[0])))
