"""Haystack 2 and 3: spans are known by their names; a model's usage is in the JSON of its answer, if
content is traced.

The instrumentation scope is the application's own. `haystack.pipeline.run` is transparent: a pipeline
without an agent is no agent. A component's type decides: an agent or a generator; any other is transparent
too.
"""

from __future__ import annotations

import re

from spanpost.model.readings import Failure, Role
from spanpost.readers.dialect import Dialect, ReadSpan
from spanpost.readers.values import finish, name, text

_OUTPUT = "haystack.agent.step.llm.output"
_COUNTS = {
    "input": re.compile(r'"prompt_tokens": ?(\d{1,18})'),
    "output": re.compile(r'"completion_tokens": ?(\d{1,18})'),
    "cache_read": re.compile(r'"cached_tokens": ?(\d{1,18})'),
    "reasoning": re.compile(r'"reasoning_tokens": ?(\d{1,18})'),
}
_MODEL = re.compile(r'"model": ?"([^"\\]{1,200})"')
_FINISH = re.compile(r'"finish_reason": ?"([^"\\]{1,40})"')


def _refine(span: ReadSpan) -> None:
    output = span.attributes.get(_OUTPUT)
    if span.observation.name == "haystack.component.run":
        kind = span.attributes.get("haystack.component.type")
        if type(kind) is not str:
            return
        if kind.endswith("Generator"):
            span.role, span.rule = Role.LLM, "haystack.component.type"
            output = span.attributes.get("haystack.component.output")
        elif kind == "Agent":
            span.role, span.rule = Role.WORKFLOW, "haystack.component.type"
            called = name(span.attributes.get("haystack.component.name"))
            if called is not None:
                span.inner.setdefault("workflow", called)
    if span.role is Role.LLM and type(output) is str:
        tail = output[-65536:]  # the usage comes after the answer's text
        for field, pattern in _COUNTS.items():
            found = pattern.findall(tail)
            if found:
                span.inner.setdefault(field, int(found[-1]))
        models, reasons = _MODEL.findall(tail), _FINISH.findall(tail)
        if models:
            span.inner.setdefault("model_answered", text(models[-1]))
        if reasons:
            span.inner.setdefault("finish", finish(reasons[-1]))
    elif span.role is Role.TOOL and span.attributes.get("haystack.tool.error") is True:
        span.said["failure"] = Failure()


HAYSTACK = Dialect(
    name="haystack",
    source="haystack-ai 3.4.0 with opentelemetry-haystack 2.0.0; of haystack-ai 2 the components",
    cannot_tell=(
        "an agent's name",
        "a conversation",
        "tokens and models, unless HAYSTACK_CONTENT_TRACING_ENABLED is set",
    ),
    names={
        "haystack.agent.run": Role.WORKFLOW,
        "haystack.agent.step": Role.STEP,
        "haystack.agent.step.llm": Role.LLM,
        "haystack.agent.step.tool": Role.TOOL,
        "haystack.component.run": Role.OTHER,
    },
    fields={"tool_name": ("haystack.tool.name",)},
    marks=frozenset({"haystack.agent.step.llm.output", "haystack.tool.error", "haystack.component.type"}),
    refine=_refine,
)
