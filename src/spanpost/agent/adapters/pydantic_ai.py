"""Pydantic AI's deferred tools: a tool that needs approval is approved or denied by a person, and the run
goes on.

    from spanpost.agent.adapters.pydantic_ai import run

    agent = Agent(model, output_type=[str, DeferredToolRequests])
    @agent.tool_plain(requires_approval=True) ...

    async with agent_task("Travel", task_id="trip-7"):
        result = await run(agent, "Book a room in Oslo")

Made for pydantic-ai 2 (2.68). Within an `agent_task` with a `task_id`, a run that was restarted with its
message history finds the decisions that were made meanwhile.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied

from spanpost.agent.adapters.scope import ask, readable, refused, scoped
from spanpost.agent.control import AtExpiry, Decision

__all__ = ["decide", "run"]


async def run(
    agent: Agent[Any, Any],
    prompt: Any = None,
    *,
    risk: str = "",
    expires_in: timedelta | float | None = None,
    at_expiry: AtExpiry | None = None,
    **options: Any,
) -> Any:
    """Run an agent to its end; a person decides about each tool call that needs approval.

    `options` are those of `Agent.run`. Returns the run's result; one with calls for another executor
    (`DeferredToolRequests.calls`) is returned unchanged.
    """
    result = await agent.run(prompt, **options)
    while isinstance(result.output, DeferredToolRequests) and result.output.approvals and not result.output.calls:
        answers = await decide(result.output, risk=risk, expires_in=expires_in, at_expiry=at_expiry)
        options = options | {"message_history": result.all_messages(), "deferred_tool_results": answers}
        result = await agent.run(None, **options)
    return result


async def decide(
    requests: DeferredToolRequests,
    *,
    risk: str = "",
    expires_in: timedelta | float | None = None,
    at_expiry: AtExpiry | None = None,
) -> DeferredToolResults:
    """Ask about all tool calls that need approval, at once; return the decisions for `Agent.run`."""

    async def one(call: Any) -> Decision:
        return await ask(
            f"Run {call.tool_name}?",
            id=scoped(call.tool_call_id),
            detail=readable(_arguments(call)),
            risk=risk,
            expires_in=expires_in,
            at_expiry=at_expiry,
        )

    decisions = await asyncio.gather(*(one(call) for call in requests.approvals))
    answers = {
        call.tool_call_id: _answer(decision) for call, decision in zip(requests.approvals, decisions, strict=True)
    }
    return DeferredToolResults(approvals=answers)


def _arguments(call: Any) -> Any:
    try:
        return call.args_as_dict()
    except ValueError:  # the model wrote no JSON
        return call.args


def _answer(decision: Decision) -> ToolApproved | ToolDenied:
    return ToolApproved() if decision.approved else ToolDenied(refused(decision))
