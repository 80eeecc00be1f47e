"""Plans: the current step of how many, read from calls of a tool that writes a to-do list.

Claude Code's ``TodoWrite``, LangChain's ``write_todos``, Codex' ``update_plan`` and their like take the
whole list each time. The progress is read from the states alone. The words of the steps are content, kept
only if content is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from spanpost.readers.values import text

_TOOLS = frozenset(
    {
        "todowrite",
        "writetodos",
        "updatetodos",
        "updatetodo",
        "todolist",
        "managetodolist",
        "updateplan",
        "writeplan",
        "setplan",
    }
)
#: Where instrumentations put a tool's arguments.
_ARGUMENTS = (
    "gen_ai.tool.call.arguments",
    "tool_arguments",
    "ai.toolCall.args",
    "ai.toolCall.input",
    "input.value",
    "traceloop.entity.input",
    "langfuse.observation.input",
    "mlflow.spanInputs",
    "genkit:input",
    "gen_ai.prompt",
    "tool_input",
    "tool_parameters",
    "arguments",
)
_STATE = re.compile(r"""\\*["']status\\*["']: ?\\*["'](\w{2,20})""")
_DONE = frozenset({"completed", "complete", "done", "finished", "cancelled", "skipped"})
_NOW = frozenset({"in_progress", "inprogress", "active", "running", "doing"})
_LISTS = ("todos", "plan", "items", "steps", "tasks")
_WORDS = ("activeForm", "active_form", "content", "step", "title", "name", "description")
_LONGEST = 65536


@lru_cache(maxsize=4096)
def is_plan(tool: str) -> bool:
    """Tell by its name whether a tool writes down a plan."""
    return len(tool) <= 40 and tool.lower().replace("_", "").replace("-", "").rpartition(".")[2] in _TOOLS


def plan_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan's current step, number of steps and words as fields of a reading; empty if unknown."""
    given = next((found for one in _ARGUMENTS if type(found := attributes.get(one)) is str and "status" in found), None)
    if given is None:
        return {}
    states = [state.lower() for state in _STATE.findall(given[:_LONGEST])]
    if not states:
        return {}
    done = sum(state in _DONE for state in states)
    at = next((n for n, state in enumerate(states) if state in _NOW), min(done, len(states) - 1))
    said: dict[str, Any] = {"step_index": at + 1, "step_count": len(states), "is_plan": True}
    words = _words(given, at, len(states))
    if words is not None:
        said["step_name"] = words
    return said


def _words(given: str, at: int, count: int) -> str | None:
    try:
        found: Any = msgspec.json.decode(given[:_LONGEST])
        while isinstance(found, str):
            found = msgspec.json.decode(found)
    except msgspec.DecodeError:
        return None
    for _ in range(3):
        if isinstance(found, dict):
            found = next((found[one] for one in _LISTS if one in found), next(iter(found.values()), None))
    if not isinstance(found, list) or len(found) != count or not isinstance(found[at], dict):
        return None
    return next((words for one in _WORDS if (words := text(found[at].get(one))) is not None), None)
