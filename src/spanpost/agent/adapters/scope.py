"""What the adapters share: ids of questions that frameworks number themselves, arguments as people read them, and what a model is told."""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from typing import Any

from opentelemetry import trace

from spanpost.agent.control import Decision, QuestionTooLong, approval
from spanpost.agent.task import current_task


def scoped(id: str) -> str:
    """Return an id within its task: by the task's own id, so that a restarted run finds it; else by its trace.

    A framework's numbers ("call_0") are unique in one run at most: an answer must not be taken for another run's.
    """
    task = current_task()
    if task is not None and task.task_id:
        return f"{task.task_id}/{id}"
    context = (task.span if task is not None else trace.get_current_span()).get_span_context()
    return f"{context.trace_id:032x}/{id}" if context.is_valid else id


async def ask(question: str, **more: Any) -> Decision:
    """Ask a person as `approval` does. What is too long to be read is denied: the model is told so, and may ask for less at a time."""
    try:
        return await approval(question, **more)
    except QuestionTooLong as error:
        return Decision(id=more.get("id") or "", decision="deny", comment=str(error))


def readable(arguments: Any) -> str:
    """Return a call's arguments as a person reads them: one to a line."""
    if isinstance(arguments, Mapping):
        return "\n".join(
            f"{name}: {value if isinstance(value, str) else _json(value)}" for name, value in arguments.items()
        )
    return "" if arguments in (None, "") else str(arguments)


def refused(decision: Decision) -> str:
    """Return what a model is told of a call that was not approved: who denied it and why; or that nobody decided."""
    if decision.expired and not decision.denied:
        return "Not decided in time. This is no refusal: the call was not made because the question was not answered."
    why = f": {decision.comment}" if decision.comment else ""
    return f"Denied{f' by {decision.by}' if decision.by else ''}{why}"


def _json(value: Any) -> str:
    try:
        return dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return str(value)
