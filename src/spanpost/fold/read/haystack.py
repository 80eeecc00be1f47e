"""Haystack 3.4: spans are known by their names; what a model used stands in the JSON of its answer, where content is traced.

The instrumentation scope is the application's own. `haystack.pipeline.run` and `haystack.component.run` are transparent: a
pipeline without an agent is no agent.
"""

from __future__ import annotations

import re

from spanpost.domain.readings import Failure, Role
from spanpost.fold.read.dialect import Dialect, Look
from spanpost.fold.read.values import finish, text

_OUTPUT = "haystack.agent.step.llm.output"
_COUNTS = {
    "input": re.compile(r'"prompt_tokens": ?(\d{1,18})'),
    "output": re.compile(r'"completion_tokens": ?(\d{1,18})'),
    "cache_read": re.compile(r'"cached_tokens": ?(\d{1,18})'),
    "reasoning": re.compile(r'"reasoning_tokens": ?(\d{1,18})'),
}
_MODEL = re.compile(r'"model": ?"([^"\\]{1,200})"')
_FINISH = re.compile(r'"finish_reason": ?"([^"\\]{1,40})"')


def _refine(look: Look) -> None:
    told = look.attributes.get(_OUTPUT)
    if look.role is Role.LLM and type(told) is str:
        tail = told[-65536:]  # what was used stands behind what was said
        for field, pattern in _COUNTS.items():
            found = pattern.findall(tail)
            if found:
                look.inner.setdefault(field, int(found[-1]))
        models, reasons = _MODEL.findall(tail), _FINISH.findall(tail)
        if models:
            look.inner.setdefault("model_answered", text(models[-1]))
        if reasons:
            look.inner.setdefault("finish", finish(reasons[-1]))
    elif look.role is Role.TOOL and look.attributes.get("haystack.tool.error") is True:
        look.said["failure"] = Failure()


HAYSTACK = Dialect(
    name="haystack",
    source="haystack-ai 3.4.0 with opentelemetry-haystack 2.0.0",
    cannot_tell=("an agent's name", "a conversation", "tokens and models, unless HAYSTACK_CONTENT_TRACING_ENABLED is set"),
    names={
        "haystack.agent.run": Role.WORKFLOW,
        "haystack.agent.step": Role.STEP,
        "haystack.agent.step.llm": Role.LLM,
        "haystack.agent.step.tool": Role.TOOL,
    },
    fields={"tool_name": ("haystack.tool.name",)},
    marks=frozenset({"haystack.agent.step.llm.output", "haystack.tool.error"}),
    refine=_refine,
)
