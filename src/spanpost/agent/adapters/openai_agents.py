"""The OpenAI Agents SDK's `needs_approval`: a tool that needs approval is approved or rejected by a person, and the run goes on.

    from spanpost.agent.adapters.openai_agents import run

    @function_tool(needs_approval=True)
    def book_hotel(city: str) -> str: ...

    async with agent_task("Travel", task_id="trip-7"):
        result = await run(agent, "Book a room in Oslo")

Made for openai-agents 0.24. Within an `agent_task` with a `task_id` a run that goes on from its kept state (``keep``, then
`RunState.from_string`) finds the answers that were given meanwhile.
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

#: Of a call that has no arguments (a shell's command, a patch), what says nothing of what is to be done.
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
    """Run an agent to its end: each tool call that needs approval is asked of a person. `options` are those of `Runner.run`.

    `input` may be a `RunState` that was kept. `keep`, async or not, is given the state before people are asked: keep its
    `to_string()` where a process that is killed meanwhile shall go on.
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
    """Ask a person about every tool call that a run stopped at, about all at once, and write the answers into its state.

    For runs that are not `run`'s: of `Runner.run_streamed`, take ``result.to_state()`` once its events are read.
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
    """Return what a person has to know of a call: its arguments; of a shell's command or a patch, what is to be done."""
    if call.arguments is not None:
        try:
            return readable(loads(call.arguments))
        except ValueError:  # the model wrote no JSON
            return readable(call.arguments)
    raw = call.raw_item
    said = raw if isinstance(raw, Mapping) else raw.model_dump(mode="json", exclude_none=True)
    return readable({name: value for name, value in said.items() if name not in _NOT_SHOWN})
