"""The name of a task: one rule for its row, its checkpoints and what shows them.

Rules. The first that is known: the name that the agent or a person gave the task; the agent's or the workflow's own
name, and behind it the request that it serves; for a team without a name of its own, or with the name of one of its
agents, the names of its agents; the agent that the calls name; the request or job around the calls; the span's name;
the service's; the model's. What was asked of the task stands before all but the first, where content is kept
(`labels.title`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from spanpost.tasks import requests
from spanpost.tasks.facts import value_of
from spanpost.tasks.records import TaskState

#: Agents that a team's name has.
_TEAM: Final = 3
_BETWEEN: Final = " · "


def name_of(state: TaskState, team: Collection[str] = ()) -> str:
    """Return a task's name; `team`: the agents directly below its root."""
    facts = state.facts
    own, around = facts.name, requests.around(facts, has_root_span=state.has_root_span)
    request = value_of(around)
    if facts.is_named is not None and own is not None:
        return own.value
    is_poor = own is not None and own.priority < 0
    if len(team) > 1 and own is not None and (is_poor or own.value in team):
        named = ", ".join(sorted(team)[:_TEAM]) + (", …" if len(team) > _TEAM else "")
    elif own is not None and not is_poor:
        named = own.value
    else:
        named = value_of(facts.agent_name) or value_of(facts.agent_label) or ""
    if named:
        return f"{named}{_BETWEEN}{request}" if around is not None and around.priority else named
    service = value_of(facts.service) or ""
    if request:
        return request
    if own is not None:
        return f"{own.value}{_BETWEEN}{service}" if service else own.value
    return service or value_of(facts.model) or ""
