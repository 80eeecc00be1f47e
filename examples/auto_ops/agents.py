"""Three agents about one alert: analysis, fix, review. They emit OpenTelemetry and know of no Slack.

They start in the alert's own trace (`within`). So their tasks are below it, and their messages and questions
in its thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from model import Model
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from spanpost.agent import Task, agent_task
from spanpost.agent.control import approval, cancelled

#: Plans that are made at most, each on what review objected to the one before, unless the options say otherwise.
ROUNDS = 3
#: Maximum length of an action's output that is reported, characters; and time limit of an action, seconds.
_SHOWN, _LONGEST = 300, 600

ANALYSIS = (
    "You are the analysis agent of people on call. Say in one sentence what is most likely wrong (verdict), what else "
    "it may be (causes), and what to look at to be sure (diagnostics). Follow the runbook if there is one."
)
FIX = (
    "You are the fix agent of people on call. Say in one sentence what to do (plan), choose the one action "
    "that does it, by its "
    "name, and say how to see that it helped (validation). Where a file should change, add a unified diff (patch): "
    "people read it, and no program applies it. Heed the objections of the review to earlier plans."
)
REVIEW = (
    "You are the review agent of people on call. Would this plan mend it without doing harm? "
    "verdict: accept or refuse; why: one sentence."
)

tracer = trace.get_tracer("auto_ops")


@dataclass(frozen=True)
class Alert:
    """Alert from the gateway's API. Its texts are untrusted."""

    id: str
    name: str
    summary: str
    traceparent: str
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    runbook_url: str = ""
    #: The runbook's text, where a directory of runbooks has it.
    runbook: str = ""
    #: What the repository of the failing program holds.
    repository: tuple[str, ...] = ()

    def fields(self) -> dict[str, Any]:
        """Return the fields that a model receives."""
        said = {
            "name": self.name,
            "summary": self.summary,
            "description": self.description,
            "labels": dict(self.labels),
            "runbook_url": self.runbook_url,
            "runbook": self.runbook,
            "repository": list(self.repository),
        }
        return {name: value for name, value in said.items() if value}


@dataclass(frozen=True)
class Action:
    """Action that may be run, from `actions.toml`."""

    name: str
    says: str
    run: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Plan of the fix agent."""

    text: str
    action: Action
    #: How to see that it helped.
    validation: str
    #: A change of files that people may make; empty: none.
    patch: str = ""


@contextmanager
def within(alert: Alert) -> Iterator[None]:
    """Put tasks that begin in the block below the alert."""
    token = context.attach(TraceContextTextMapPropagator().extract({"traceparent": alert.traceparent}, Context()))
    try:
        yield
    finally:
        context.detach(token)


async def handle(
    alert: Alert,
    model: Model,
    actions: Mapping[str, Action],
    *,
    wait: float,
    rounds: int = ROUNDS,
    is_over: Callable[[], Awaitable[bool]],
    acting: Callable[[], Awaitable[None]],
) -> str:
    """Analyse, plan, have the plan reviewed and approved, run it; return the outcome.

    `wait` is the time that people have to answer, seconds. `acting` is called right before the action runs.
    Raises `ModelFailed`.
    """
    with within(alert):
        verdict = await analyse(alert, model)
        with agent_task(f"Fix {alert.name}", agent="fix", type="auto_ops", task_id=f"{alert.id}/fix") as task:
            plan = await accepted(alert, verdict, model, actions, task, rounds)
            if plan is None:
                task.set(status="error", action=f"No plan was accepted in {rounds} rounds: a person is needed")
                task.checkpoint(f"No plan was accepted in {rounds} rounds: a person is needed")
                return "no plan was accepted"
            task.result("plan", plan.text)
            if plan.patch:
                task.checkpoint(f"Proposed patch, which is not applied:\n{plan.patch}")
            decision = await approval(
                f"{plan.action.says}, because of {alert.name}?",
                id=f"auto_ops/{alert.id}",  # a later run with the same id gets the same answer, after a crash too
                detail=f"Verdict: {verdict}\nPlan: {plan.text}\nRuns: {' '.join(plan.action.run)}\n"
                f"Afterwards: {plan.validation}" + ("\nA patch is in the thread." if plan.patch else ""),
                risk="medium",
                expires_in=wait,
            )
            if not decision.approved:
                task.set(status="cancelled")
                task.result("outcome", "nobody decided" if decision.expired else f"denied by {decision.by}")
                return "nobody decided" if decision.expired else "denied"
            if cancelled(task):
                task.set(status="cancelled")
                return "cancelled"
            if await is_over():
                task.result("outcome", "the alert is over: nothing was done")
                return "the alert was over"
            await acting()
            task.result("outcome", await run(alert, plan.action))
            return "done"


async def rehearse(alert: Alert, model: Model, actions: Mapping[str, Action], *, rounds: int = ROUNDS) -> list[str]:
    """Return the lines that the agents would write into the alert's thread. Nobody is asked and nothing runs.

    Raises `ModelFailed`.
    """
    said: list[str] = []
    verdict = await analyse(alert, model, said.append)
    with agent_task(f"Fix {alert.name}", agent="fix", type="auto_ops") as task:
        plan = await accepted(alert, verdict, model, actions, task, rounds, said.append)
    if plan is None:
        return [*said, f"No plan was accepted in {rounds} rounds: a person is needed"]
    if plan.patch:
        said.append(f"Proposed patch, which is not applied:\n{plan.patch}")
    return [*said, f"Question: {plan.action.says}, because of {alert.name}?", f"Runs: {' '.join(plan.action.run)}"]


async def accepted(
    alert: Alert,
    verdict: str,
    model: Model,
    actions: Mapping[str, Action],
    task: Task,
    rounds: int,
    say: Callable[[str], None] = lambda _: None,
) -> Plan | None:
    """Return the first plan that review accepts, of `rounds` at most; None if it accepts none."""
    objections: list[dict[str, str]] = []
    for number in range(1, rounds + 1):
        task.step(f"plan {number}", number, rounds)
        plan = await propose(alert, verdict, objections, model, actions)
        task.checkpoint(text := f"Plan {number}: {plan.text} ({plan.action.name})")
        say(text)
        with within(alert):  # beside the fix, not below it
            objection = await review(alert, verdict, plan, number, model)
        say(f"Review {number}: accepted" if objection is None else f"Review {number}: refused: {objection}")
        if objection is None:
            return plan
        objections.append({"plan": plan.text, "action": plan.action.name, "why": objection})
    return None


async def analyse(alert: Alert, model: Model, say: Callable[[str], None] = lambda _: None) -> str:
    """Return the most likely cause."""
    with agent_task(f"Analyse {alert.name}", agent="analysis", type="auto_ops", task_id=f"{alert.id}/analysis") as task:
        said = await model.ask(ANALYSIS, {"alert": alert.fields()}, "verdict", "causes", "diagnostics")
        verdict = said["verdict"]
        for name, text in said.items():
            task.checkpoint(line := f"{name.capitalize()}: {text}")
            task.result(name, text)
            say(line)
        return verdict


async def propose(
    alert: Alert, verdict: str, objections: list[dict[str, str]], model: Model, actions: Mapping[str, Action]
) -> Plan:
    """Return a plan with one of the known actions."""
    named = {action.name: action.says for action in actions.values()}
    facts: dict[str, Any] = {"alert": alert.fields(), "verdict": verdict, "actions": named, "objections": objections}
    said = await model.ask(FIX, facts, "plan", "action", "validation", maybe="patch")
    if said["action"] not in actions:
        raise ValueError(f"the model chose an action that there is not; there are {', '.join(actions)}")
    return Plan(said["plan"], actions[said["action"]], said["validation"], said.get("patch", ""))


async def review(alert: Alert, verdict: str, plan: Plan, number: int, model: Model) -> str | None:
    """Return the objection to a plan; None if it is accepted."""
    name, id = f"Review plan {number}", f"{alert.id}/review-{number}"
    with agent_task(name, agent="review", type="auto_ops", task_id=id) as task:
        facts = {"alert": alert.fields(), "verdict": verdict, "plan": plan.text, "action": plan.action.says}
        facts |= {"patch": plan.patch} if plan.patch else {}
        said = await model.ask(REVIEW, facts, "verdict", "why")
        is_accepted = said["verdict"].lower() == "accept"  # any other answer rejects the plan
        task.result("plan", f"{plan.text} ({plan.action.name})")
        task.result("review", f"{'accepted' if is_accepted else 'refused'}: {said['why']}")
        return None if is_accepted else said["why"]


async def run(alert: Alert, action: Action) -> str:
    """Run the action; return the last line that it printed. Raises `RuntimeError` when it fails."""
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": action.name}
    with tracer.start_as_current_span(f"execute_tool {action.name}", attributes=attributes):
        process = await asyncio.create_subprocess_exec(
            *action.run,
            env={**_environment(), "AUTO_OPS_ALERT": f"{alert.name}: {alert.summary}"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), _LONGEST)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise RuntimeError(f"{action.name} did not end within {_LONGEST} s and was killed") from None
        text = output.decode(errors="replace").strip()[-_SHOWN:]
        if process.returncode:
            raise RuntimeError(f"{action.name} ended with {process.returncode}: {text}")
        return text or "done"


def _environment() -> dict[str, str]:
    """Return the environment without this process's tokens and database."""
    ours = ("SPANPOST_", "OPENAI_", "OTEL_", "DATABASE_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
