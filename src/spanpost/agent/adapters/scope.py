"""Shared by the adapters: ids of questions, arguments as people read them, and the model's answer to a
refused call.
"""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from typing import Any

from opentelemetry import trace

from spanpost.agent.control import Decision, QuestionTooLong, approval
from spanpost.agent.task import current_task


def scoped(id: str) -> str:
    """Return an id within its task: with the task's id, so that a restarted run finds it; else with its
    trace.

    A framework's ids ("call_0") are unique only within one run. A decision must not apply to another run.
    """
    task = current_task()
    if task is not None and task.task_id:
        return f"{task.task_id}/{id}"
    context = (task.span if task is not None else trace.get_current_span()).get_span_context()
    return f"{context.trace_id:032x}/{id}" if context.is_valid else id


async def ask(question: str, **more: Any) -> Decision:
    """Ask a person as `approval` does.

    A question that is too long is denied with that reason, which the model reads.
    """
    try:
        return await approval(question, **more)
    except QuestionTooLong as error:
        return Decision(id=more.get("id") or "", decision="deny", comment=str(error))


def readable(arguments: Any) -> str:
    """Return a call's arguments as a person reads them, one per line."""
    if isinstance(arguments, Mapping):
        return "\n".join(
            f"{name}: {value if isinstance(value, str) else _json(value)}" for name, value in arguments.items()
        )
    return "" if arguments in (None, "") else str(arguments)


def refused(decision: Decision) -> str:
    """Return the model's answer to a refused call: who denied it and why, or that no person decided."""
    if decision.expired and not decision.denied:
        return "No person decided in time. This is no refusal: the call was not made because no answer came."
    why = f": {decision.comment}" if decision.comment else ""
    return f"Denied{f' by {decision.by}' if decision.by else ''}{why}"


def _json(value: Any) -> str:
    try:
        return dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return str(value)
