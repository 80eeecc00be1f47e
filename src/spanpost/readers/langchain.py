"""LangChain and LangGraph, in every instrumentation: ``lc_agent_name`` in the metadata of each run."""

from __future__ import annotations

from typing import Any

from spanpost.model.readings import Role
from spanpost.readers.dialect import ReadSpan
from spanpost.readers.values import name

_STEP, _AGENT = Role.STEP, Role.AGENT


def refine_by_agent(span: ReadSpan, agent: Any, rule: str) -> None:
    """Read the agent's name: the run of that name is the agent's, any other run is a part of it."""
    if type(agent) is str:
        agent = agent.strip('"')  # Langfuse writes it as JSON
    clean = name(agent)
    if clean is None:
        return
    is_it = span.observation.name == agent
    if is_it and span.role is _STEP:
        span.role, span.rule = _AGENT, rule
    elif not is_it and span.role is _AGENT:
        # The kind is guessed from the name: a graph node that is called "agent" is a node.
        span.role, span.rule = _STEP, f"{rule} of another"
    span.inner["agent"] = clean
