"""The tools that a model call asks for, where its answer is on the span: whether they end a run or ask a person.

Rules. A call that asks only for output tools (a structured answer) and handoffs asks for nothing that must
be answered: it stops. A call that asks for a tool whose definition says that a person must approve it, or
whose answer holds a request for an approval, asks a person. Where the names are not on the span nothing is
concluded. The ids of the calls that are asked for, and of those that the input's last messages answer, find
the run that goes on with another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from spanpost.model.readings import Finish
from spanpost.readers.values import identifier

#: Tools after which no model turn is expected: a run that closes on one of them has ended, not asked.
CLOSING: Final = re.compile(
    r"final_(?:answer|result|output|response)|finish|handoff|hand_off|transfer|submit|return_|complete_task"
    r"|attempt_completion|structured_?output|output_tool|structured_response|set_model_response|exit_loop",
    re.IGNORECASE,
)
#: Attributes that hold a call's answer as JSON, best first.
_ANSWERS: Final = (
    "gen_ai.output.messages",
    "ai.response.toolCalls",
    "genkit:output",
    "mastra.model_generation.output",
    "langfuse.observation.output",
    "gen_ai.completion",
    "output.value",
)
_PARAMETERS: Final = "model_request_parameters"
#: Messages of an input: the head of their names, and the ends of a role's and of a tool result's id.
_INPUTS: Final = (
    ("llm.input_messages.", ".message.role", ".message.tool_call_id"),
    ("gen_ai.prompt.", ".role", ".tool_call_id"),
)
#: Ids kept of each call, and digits of a message's number.
_IDS, _DIGITS = 6, 6
#: Heads of attributes that hold a part of the answer each.
_FLAT: Final = ("llm.output_messages.", "gen_ai.completion.")
_FLAT_NAME: Final = re.compile(r"tool_calls?\.\d{1,4}\.(?:tool_call\.)?(?:function\.)?name$")
#: What the parts of a message are called that call a tool, and that ask a person for an approval (OpenAI's MCP,
#: Vercel's AI SDK).
_CALLS: Final = frozenset({"tool_call", "tool-call", "tool_use", "function_call"})
_APPROVALS: Final = frozenset({"mcp_approval_request", "tool-approval-request", "tool_approval_request"})
#: Tools by which the model answers (pydantic-ai).
_OUTPUT_TOOLS: Final = re.compile(r'"output_tools": ?\[(?!\])')
_NAME: Final = re.compile(r'"name": ?"([^"\\]{1,128})"')
#: Characters of an answer that are read, and how deep; characters that are searched for output tools.
_DOCUMENT, _DEPTH, _GLANCE = 65_536, 10, 16_384
#: A word in a tool's definition that a person must confirm a call.
_CONFIRMED: Final = re.compile(r'"(?:requires?|needs?)_?(?:confirmation|approval)": ?true', re.IGNORECASE)


def read_tools(said: dict[str, Any], finish: Finish | None, attributes: Mapping[str, Any]) -> None:
    """Set why a model stopped, the ids of the tool calls that it asks for, and of those that its input answers."""
    if finish is Finish.TOOLS:
        calls = _asked(attributes)
        finish = _judged(finish, {name for name, _ in calls}, attributes)
        if finish is not Finish.STOP and (ids := _ids(call_id for _, call_id in calls)):
            said["asked_ids"] = ids
    if finish is not None:
        said["finish"] = finish
    for head, role, end in _INPUTS:
        if f"{head}0{role}" in attributes and (ids := _ids(_answered(attributes, head, role, end))):
            said["answered_ids"] = ids


def _ids(found: Iterable[Any]) -> tuple[str, ...]:
    known = dict.fromkeys(identifier(one) for one in found)
    return tuple(one for one in known if one is not None and len(one.split()) == 1)[:_IDS]


def _answered(attributes: Mapping[str, Any], head: str, role: str, end: str) -> Iterable[Any]:
    """Yield the ids of the tool results that are the last messages of an input: its newest are not answered yet."""
    numbers = [key[len(head) : -len(end)] for key in attributes if key.endswith(end) and key.startswith(head)]
    number = max((int(one) for one in numbers if one.isdecimal() and len(one) <= _DIGITS), default=-1)
    if number >= 0 and f"{head}{number + 1}{role}" not in attributes:
        while f"{head}{number}{end}" in attributes:
            yield attributes[f"{head}{number}{end}"]
            number -= 1


def _judged(finish: Finish, names: set[str], attributes: Mapping[str, Any]) -> Finish:
    """Return why a model stopped that asks for tools, in the light of the tools that it asks for."""
    if not names:
        return finish
    given = attributes.get(_PARAMETERS)
    parameters = given if type(given) is str else ""
    output_tools = _output_tools(parameters)
    asked = [name for name in names if name not in output_tools and CLOSING.search(name) is None]
    if not asked:
        return Finish.STOP
    if not _APPROVALS.isdisjoint(asked):
        return Finish.ASKS
    definitions = list(_definitions(attributes))
    needs_person = any(_is_deferred(name, parameters) or _is_confirmed(name, definitions) for name in asked)
    return Finish.ASKS if needs_person else finish


def _asked(attributes: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return names and ids of the tool calls that an answer asks for; of a request for an approval its type."""
    found: list[tuple[str, Any]] = []
    for name in _ANSWERS:
        said = attributes.get(name)
        if type(said) is str and len(said) <= _DOCUMENT and ("tool" in said or "function" in said):
            try:
                _collect(msgspec.json.decode(said), found, _DEPTH)
            except (ValueError, RecursionError):
                continue
            if found:
                return found
    for key, said in attributes.items():
        if key.startswith(_FLAT) and type(said) is str and _FLAT_NAME.search(key) is not None:
            found.append((said, attributes.get(f"{key[: -len('name')].removesuffix('function.')}id")))
    return found


def _collect(value: Any, found: list[tuple[str, Any]], depth: int) -> None:
    if depth <= 0:
        return
    if isinstance(value, list):
        for one in value:
            _collect(one, found, depth - 1)
    elif isinstance(value, dict):
        kind, function = value.get("type"), value.get("function")
        if kind in _APPROVALS:
            found.append((str(kind), None))
        elif isinstance(function, dict) and isinstance(function.get("name"), str):
            found.append((function["name"], value.get("id")))
        elif isinstance(name := _named(value, kind), str):
            found.append((name, _called(value)))
        else:
            for inside in value.values():
                if isinstance(inside, list | dict):
                    _collect(inside, found, depth - 1)


def _named(part: dict[str, Any], kind: Any) -> Any:
    request = part.get("toolRequest")
    if isinstance(request, dict):
        return request.get("name")
    return part.get("toolName") or (part.get("name") if kind in _CALLS else None)


def _called(part: dict[str, Any]) -> Any:
    """Return the id of a tool call; OpenAI's items have one of their own besides."""
    request = part.get("toolRequest")
    if isinstance(request, dict):
        return request.get("ref")
    return part.get("call_id") or part.get("callId") or part.get("toolCallId") or part.get("id")


def _output_tools(parameters: str) -> frozenset[str]:
    begin = _OUTPUT_TOOLS.search(parameters)
    if begin is None:
        return frozenset()
    # Each tool's own name comes first in it; names within schemas only add words that no model asks for.
    return frozenset(_NAME.findall(parameters[begin.end() : begin.end() + _GLANCE]))


def _is_deferred(name: str, parameters: str) -> bool:
    """Tell whether a tool's definition says that it waits for an approval or for another program."""
    at = parameters.find(f'"name":"{name}"')
    if at < 0:
        return False
    kind = parameters.find('"kind":"', at)
    return kind >= 0 and parameters.startswith(("unapproved", "external"), kind + 8)


def _definitions(attributes: Mapping[str, Any]) -> Iterable[str]:
    """Yield the definitions of tools, where one of them must be confirmed."""
    for key, said in attributes.items():
        is_definition = key.startswith("llm.tools.") or key in ("gen_ai.tool.definitions", "ai.prompt.tools")
        if is_definition and type(said) is str and _CONFIRMED.search(said) is not None:
            yield said


def _is_confirmed(name: str, definitions: Iterable[str]) -> bool:
    """Tell whether a tool must be confirmed: the mark follows its name, before the name of another tool."""
    for said in definitions:
        for own in re.finditer(rf'"name": ?"{re.escape(name)}"', said):
            mark, other = _CONFIRMED.search(said, own.end()), said.find('"function"', own.end())
            if mark is not None and (other < 0 or mark.start() < other):
                return True
    return False
