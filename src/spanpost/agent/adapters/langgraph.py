"""LangGraph's interrupts: a person answers a node's `interrupt(...)`, and the graph is resumed with the
answer.

    from spanpost.agent.adapters.langgraph import ainvoke

    async with agent_task("Travel", task_id="trip-7"):
        state = await ainvoke(graph, {"messages": [...]}, {"configurable": {"thread_id": "trip-7"}})

A node asks with a text, ``interrupt("Book a hotel?")``, or with a dict of ``question``, ``detail``,
``options`` and ``risk``. It receives True, False, or the chosen option. LangChain's
`HumanInTheLoopMiddleware` receives its own form. Made for langgraph 1 (1.2). A graph whose process was
killed continues with ``ainvoke(graph, None, config)``, and finds the decisions that were made meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from langgraph.types import Command

from spanpost.agent.adapters.scope import ask, readable, refused
from spanpost.agent.control import ApprovalTimeout, AtExpiry, Decision

__all__ = ["ainvoke", "invoke"]

#: Makes a node's answer from a person's decision and the interrupt's value.
Answer = Callable[[Decision, Any], Any]


def invoke(
    graph: Any,
    input: Any,
    config: Mapping[str, Any],
    *,
    answer: Answer | None = None,
    expires_in: timedelta | float | None = None,
    at_expiry: AtExpiry | None = None,
    **options: Any,
) -> Any:
    """Run a graph to its end as `ainvoke` does, from synchronous code. Not within a running loop."""
    return asyncio.run(
        ainvoke(
            graph, input, config, answer=answer, expires_in=expires_in, at_expiry=at_expiry, is_sync=True, **options
        )
    )


async def ainvoke(
    graph: Any,
    input: Any,
    config: Mapping[str, Any],
    *,
    answer: Answer | None = None,
    expires_in: timedelta | float | None = None,
    at_expiry: AtExpiry | None = None,
    is_sync: bool = False,
    **options: Any,
) -> Any:
    """Run a graph to its end; a person answers each interrupt. Simultaneous interrupts are asked at once.

    `config` names the thread. The graph needs a checkpointer, else it cannot be resumed. `answer` makes a
    node's answer from the decision. `is_sync`: the graph's nodes are not async; it runs in a thread. Raises
    `ApprovalTimeout` when a deadline passes: the graph stays interrupted, and can be run again.
    """
    thread = str((config.get("configurable") or {}).get("thread_id", ""))
    if not thread:
        raise ValueError('langgraph: the config names no thread; give {"configurable": {"thread_id": "..."}}')

    async def run(given: Any) -> Any:
        if is_sync:
            return await asyncio.to_thread(graph.invoke, given, config, **options)
        return await graph.ainvoke(given, config, **options)

    async def asked(question: str, id: str, detail: str, choices: list[str], risk: str) -> Decision:
        decision = await ask(
            question,
            id=f"{thread}/{id}",
            detail=detail,
            options=choices,
            risk=risk,
            expires_in=expires_in,
            at_expiry=at_expiry,
        )
        if decision.expired and not decision.denied:
            raise ApprovalTimeout(f"nobody decided in time: {question[:100]}")
        return decision

    async def decide(interrupt: Any) -> Any:
        value = interrupt.value
        if isinstance(value, Mapping) and "action_requests" in value:  # LangChain's HumanInTheLoopMiddleware
            actions = list(value["action_requests"])
            decisions = await asyncio.gather(
                *(
                    asked(
                        f"Run {a.get('name')}?",
                        f"{interrupt.id}/{i}",
                        readable(a.get("args", a.get("arguments"))),
                        [],
                        "",
                    )
                    for i, a in enumerate(actions)
                )
            )
            return {"decisions": [_reviewed(d) for d in decisions]}
        said = dict(value) if isinstance(value, Mapping) else {"question": value}
        question = str(said.pop("question", None) or said.pop("message", None) or "A decision is needed")
        choices = [str(one) for one in said.pop("options", None) or ()]
        risk, detail = str(said.pop("risk", "")), said.pop("detail", None)
        decision = await asked(
            question, str(interrupt.id), readable(said) if detail is None else str(detail), choices, risk
        )
        if answer is not None:
            return answer(decision, value)
        return decision.decision if choices else decision.approved

    async def open_interrupts() -> list[Any]:
        state = await (asyncio.to_thread(graph.get_state, config) if is_sync else graph.aget_state(config))
        return list(state.interrupts)

    # Without new input the graph continues where it stopped.
    result = await run(input) if input is not None or not await open_interrupts() else None
    while interrupts := await open_interrupts():
        answers = await asyncio.gather(*(decide(one) for one in interrupts))
        result = await run(Command(resume={one.id: given for one, given in zip(interrupts, answers, strict=True)}))
    return result


def _reviewed(decision: Decision) -> dict[str, Any]:
    return {"type": "approve"} if decision.approved else {"type": "reject", "message": refused(decision)}
