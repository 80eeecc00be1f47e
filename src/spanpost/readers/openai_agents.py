"""OpenAI Agents SDK 0.24, in its instrumentations.

None of them reports that a run waits for a person: the tool that needs approval is reported at once,
without a result, and the resumed run begins with the same tool and arguments. No tool call has an id; tool,
arguments and service identify it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from spanpost.model.observations import Part, Status
from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan
from spanpost.readers.values import conversation, name, text

_TOOL = Role.TOOL
_LOGFIRE = "logfire.openai_agents"
_ARGUMENTS = ("gen_ai.tool.call.arguments", "input.value", "traceloop.entity.input", "input")
_CACHED = re.compile(r'"cached_tokens": ?(\d{1,18})')

#: logfire's span names are templates: the role of each.
_TEMPLATES = {
    "OpenAI Agents trace": Role.WORKFLOW,
    "Task": Role.STEP,
    "Turn": Role.STEP,
    "Agent run": Role.AGENT,
    "Function": Role.TOOL,
    "Handoff": Role.HANDOFF,
    "Guardrail": Role.STEP,
}


def _refine(span: ReadSpan) -> None:
    o, a = span.observation, span.attributes
    if o.origin.scope.startswith(_LOGFIRE):
        _refine_logfire(span, a)
    if span.role is not _TOOL:
        return
    # Written for every tool with a result, if content is captured.
    if (
        (
            ("gen_ai.tool.call.arguments" in a and "gen_ai.tool.call.result" not in a)
            or ("input" in a and not a.get("output"))
        )
        and o.part is Part.ENDED
        and o.status is not Status.ERROR
    ):
        span.said["has_no_result"] = True
    if "tool_call_id" not in span.said:
        given = next((a[one] for one in _ARGUMENTS if type(a.get(one)) is str), None)
        if given is not None:
            whose = f"{o.origin.resource.get('service.name')}\0{span.said.get('tool_name') or o.name}\0{given}"
            span.said["tool_call_id"] = "like:" + blake2b(whose.encode("utf-8", "replace"), digest_size=12).hexdigest()


def _refine_logfire(span: ReadSpan, a: Mapping[str, Any]) -> None:
    word = span.observation.name.partition(":")[0].partition(" {")[0]
    role = _TEMPLATES.get(word)
    if role is None:
        if span.role is Role.LLM and "cache_read" not in span.inner:
            raw = a.get("gen_ai.usage.raw")
            found = _CACHED.search(raw, 0, 4096) if type(raw) is str else None
            if found is not None:
                span.inner["cache_read"] = int(found.group(1))
        return
    span.role, span.rule = role, f"logfire: {word}"
    called = name(a.get("name"))
    if role is Role.AGENT and called is not None:
        span.inner.setdefault("agent", called)
    elif role is Role.WORKFLOW:
        if called is not None:
            span.inner.setdefault("workflow", called)
        group = conversation(a.get("group_id"))
        if group is not None:
            span.said.setdefault("conversation_id", group)
    elif role is _TOOL and called is not None:
        span.said.setdefault("tool_name", text(called))


OPENAI_AGENTS = Dialect(
    name="openai-agents",
    source="openai-agents 0.24.0 by opentelemetry-instrumentation-genai-openai-agents 1.3b0, -openai-agents-v2 0.1.0, "
    "openinference-instrumentation-openai-agents 2.6.0 and (@openai/agents 0.20.0) 0.2.15, logfire 5.2.0",
    cannot_tell=(
        "a wait for a person: it is concluded from a tool call without a result, the last of its run",
        "ids of tool calls: tool, arguments and service identify one",
        "a guardrail that stopped the run, by genai-openai-agents",
        "a resumed run, by openinference 2.6.0",
        "the end of the outermost span of a run that failed, in JavaScript",
        "tokens, by genai-openai-agents without genai-openai",
    ),
    scopes=(
        "opentelemetry.instrumentation.genai.openai_agents",
        "opentelemetry.instrumentation.openai_agents",
        "openinference.instrumentation.openai_agents",
        "@arizeai/openinference-instrumentation-openai-agents",
        _LOGFIRE,
    ),
    refine=_refine,
)
