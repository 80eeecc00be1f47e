"""Mastra: ``mastra.span.type``, by its exporter and by its bridge to the spans of OpenTelemetry's SDK.

A run says itself that it was suspended, aborted or stopped by a processor, in its output: no tool call that is left
open means a wait. The bridge reports one model call for all of a run, with the sum of their tokens: the sum is no
context.
"""

from __future__ import annotations

import re

from spanpost.model.observations import Part, Status
from spanpost.model.readings import Failure, Role
from spanpost.readers.dialect import Dialect, ReadSpan

_BRIDGE = "@mastra/otel-bridge"
_SUSPENDED, _ABORTED = '{"status":"suspended"', '{"status":"aborted"'
#: A processor of the agent stopped the run, with its reason.
_STOPPED = re.compile(r'\{"tripwire":\{(?:"reason":"((?:[^"\\]|\\.){0,500})")?')


def _refine(span: ReadSpan) -> None:
    a, o = span.attributes, span.observation
    kind = a.get("mastra.span.type")
    if kind == "agent_run":
        output = a.get("mastra.agent_run.output")
        if type(output) is str:
            if output.startswith(_SUSPENDED):
                span.said["is_interrupt"] = True
            elif output.startswith(_ABORTED):
                span.said["is_cancelled"] = True
            elif (stopped := _STOPPED.match(output)) is not None:
                span.said["failure"] = Failure(type="Tripwire", message=stopped.group(1) or "")
    elif span.role is Role.LLM:
        reasons = a.get("gen_ai.response.finish_reasons")
        if kind == "model_generation":
            span.said["is_aside"] = True
        elif o.part is Part.ENDED and reasons is None and "input" not in span.inner and o.status is not Status.ERROR:
            # The run was suspended within the call: the resumed run reports the whole call.
            span.role, span.rule = Role.STEP, "mastra: part of a call"
        span.inner.pop("finish", None)


MASTRA = Dialect(
    name="mastra",
    scopes=("@mastra/",),
    source="@mastra/core 1.71.0 by @mastra/otel-exporter 1.4.0 and @mastra/otel-bridge 1.5.4",
    cannot_tell=(
        "a run's context and number of model calls, by the bridge: it reports the sum of a run",
        "a maximum of steps that was reached",
        "what is going on, by the exporter: it sends spans that have ended",
    ),
    refine=_refine,
)
