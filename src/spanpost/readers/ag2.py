"""AG2 uses ``gen_ai.*``; beside each call and each called agent, another span repeats the usage."""

from __future__ import annotations

from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan

#: Kinds of usage that the spans of calls report as well. No other span reports the rest (a compaction).
_REPORTED_BY_CALLS = frozenset({"model_call", "subtask"})


def _refine(span: ReadSpan) -> None:
    a = span.attributes
    if a.get("ag2.span.type") == "usage" and a.get("ag2.usage.kind") in _REPORTED_BY_CALLS:
        span.role, span.rule = Role.PLUMBING, "ag2.usage.kind"


AG2 = Dialect(
    name="ag2",
    source="ag2 1.2.1",
    cannot_tell=("ids of responses", "the success of a root: its status is UNSET"),
    scopes=("opentelemetry.instrumentation.ag2",),
    marks=frozenset({"ag2.span.type"}),
    refine=_refine,
)
