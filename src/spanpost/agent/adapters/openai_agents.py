"""The OpenAI Agents SDK's `needs_approval`: a tool that needs approval is approved or rejected by a person,
and the run goes on.

    from spanpost.agent.adapters.openai_agents import run

    @function_tool(needs_approval=True)
    def book_hotel(city: str) -> str: ...

    async with agent_task("Travel", task_id="trip-7"):
        result = await run(agent, "Book a room in Oslo")

Made for openai-agents 0.24. Within an `agent_task` with a `task_id`, a run that continues from its saved
state (``keep``, then `RunState.from_string`) finds the decisions that were made meanwhile.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from json import loads
from typing import Any

from agents import Agent, Runner, RunState

from spanpost.agent.adapters.scope import ask, readable, refused, scoped
from spanpost.agent.control import AtExpiry, Decision

__all__ = ["decide", "run"]

#: Fields of a call without arguments (a shell command, a patch) that do not describe the call.
_NOT_SHOWN = ("arguments", "call_id", "caller", "created_by", "id", "name", "namespace", "status", "type")


async def run(
    agent: Agent[Any],
    input: Any,
    *,
    keep: Callable[[RunState[Any, Any]], Any] | None = None,
    risk: str = "",
    expires_in: timedelta | float | None = None,
    at_expiry: AtExpiry | None = None,
    **options: Any,
) -> Any:
    """Run an agent to its end; a person decides about each tool call that needs approval.

    `options` are those of `Runner.run`. `input` may be a saved `RunState`. `keep`, async or not, receives
    the state before people are asked: store its `to_string()` so that a new process can continue after a
    crash.
    """
    result = await Runner.run(agent, input, **options)
    while result.interruptions:
        state = result.to_state()
        if keep is not None and inspect.isawaitable(kept := keep(state)):
            await kept
        await decide(state, risk=risk, expires_in=expires_in, at_expiry=at_expiry)
        result = await Runner.run(agent, state, **options)
    return result


async def decide(
    state: RunState[Any, Any],
    *,
    risk: str = "",
    expires_in: timedelta | float | None = None,
    at_expiry: AtExpiry | None = None,
) -> None:
    """Ask about all tool calls at which a run stopped, at once, and write the decisions into its state.

    For runs without `run`: with `Runner.run_streamed`, use ``result.to_state()`` after its events were read.
    """

    async def one(call: Any) -> Decision:
        return await ask(
            f"Run {call.qualified_name or call.name or 'a tool'}?",
            id=scoped(call.call_id) if call.call_id else None,
            detail=_shown(call),
            risk=risk,
            expires_in=expires_in,
            at_expiry=at_expiry,
        )

    calls = state.get_interruptions()
    for call, decision in zip(calls, await asyncio.gather(*(one(call) for call in calls)), strict=True):
        if decision.approved:
            state.approve(call)
        else:
            state.reject(call, rejection_message=refused(decision))


def _shown(call: Any) -> str:
    """Return a call as a person reads it: its arguments; of a shell command or a patch, the fields that
    describe it.
    """
    if call.arguments is not None:
        try:
            return readable(loads(call.arguments))
        except ValueError:  # the model wrote no JSON
            return readable(call.arguments)
    raw = call.raw_item
    said = raw if isinstance(raw, Mapping) else raw.model_dump(mode="json", exclude_none=True)
    return readable({name: value for name, value in said.items() if name not in _NOT_SHOWN})
